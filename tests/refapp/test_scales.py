"""Scales are read with units, and what is wrong is said in one message."""

import pytest

from fixtures.refapp.scales import SCALES, parse_scale


@pytest.mark.parametrize("name", SCALES)
def test_a_named_scale(name):
    assert parse_scale(name) == SCALES[name]


def test_explicit_sizes_with_units():
    sizes = parse_scale("documents=10000, database=1GiB, document=8KiB")
    assert (sizes.documents, sizes.database_bytes, sizes.document_bytes) == (10_000, 1 << 30, 8192)


def test_sizes_left_out_are_those_of_the_scale_named_first():
    sizes = parse_scale("large,documents=5")
    assert (sizes.documents, sizes.database_bytes) == (5, SCALES["large"].database_bytes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smal", "did you mean 'small'"),
        ("documnets=3", "did you mean 'documents'"),
        ("documents=3,documents=4", "given twice"),
        ("documents=3KiB", "documents=3KiB is not a number"),
        ("database=lots", "write it like database=1GiB"),
        ("database=-1", "is not a size"),
        ("workspaces=0", "out of range"),
        ("", "is unknown"),
        ("small,", "is unknown"),
    ],
)
def test_a_wrong_scale_is_refused_with_one_message(text, said):
    with pytest.raises(ValueError, match=said) as problem:
        parse_scale(text)
    assert "\n" not in str(problem.value)
