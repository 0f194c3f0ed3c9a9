"""Figures put into words."""

import pytest

from reports import wording


@pytest.mark.parametrize(
    ("what", "one"),
    [("runs", "run"), ("copies", "copy"), ("commands killed", "command killed"), ("in flight", "in flight"),
     ("index entries", "index entry"), ("access", "access"), ("", "")],
)  # fmt: skip
def test_one_thing_is_said_in_the_singular(what, one):
    assert wording.looked_at({what: 1}) == f"1 {one}"
    assert wording.looked_at({what: 2}) == f"2 {what}"


def test_a_number_of_things_has_the_word_that_fits():
    assert [wording.counted(count, "run") for count in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
