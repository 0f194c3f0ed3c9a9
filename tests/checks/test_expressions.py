import pytest

from checks.expressions import normalise


@pytest.mark.parametrize(
    ("first", "restored"),
    [
        (
            "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ),
        (
            "CHECK ((((pages >= 1) AND (pages <= 1000)) AND (title <> ''::text)))",
            "CHECK (((pages >= 1) AND (pages <= 1000) AND (title <> ''::text)))",
        ),
        ("((a OR (b OR c)) AND ((d) AND e))", "((a OR b OR c) AND (d) AND e)"),
    ],
)
def test_what_a_restore_prints_differently_becomes_one(first, restored):
    assert normalise(first) == normalise(restored)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("((a OR b) AND c)", "(a OR (b AND c))"),
        ("(NOT (a AND b))", "((NOT a) AND b)"),
        ("(a = ' x  y ')", "(a = ' x y ')"),
        ("(a = '(')", "(a = ')')"),
        ("((a AND b) = c)", "(a AND (b = c))"),
        ("(status = ANY (ARRAY['a'::text]))", "(status = ANY (ARRAY['b'::text]))"),
        (
            "sum(x) OVER (ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
            "sum(x) OVER (ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING)",
        ),
    ],
)
def test_what_means_something_else_stays_different(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("text", ["((", "a) b (", "'open", ""])
def test_text_that_is_no_expression_is_kept(text):
    assert normalise(text) == text
