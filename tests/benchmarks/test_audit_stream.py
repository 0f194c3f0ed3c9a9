from benchmarks.audit_lines import hostile_lines, whole_lines
from benchmarks.audit_stream import long_line, measured

GENEROUS = 10  # the docs' figure is about 2.5; this is to see a slow path that every line takes


def test_whole_lines_are_not_accused_and_cost_a_few_times_their_parsing(tmp_path):
    row = measured("whole", whole_lines(4000), tmp_path / "ids")
    assert (row.lines, row.codes) == (4000, ())
    assert row.seconds / row.loads_seconds < GENEROUS


def test_fuzz_and_a_long_line_are_rows_with_codes(tmp_path):
    fuzz = measured("fuzz", hostile_lines(500), tmp_path / "ids")
    assert fuzz.lines >= 500 and len(fuzz.codes) > 8
    assert long_line(tmp_path / "ids").codes == ("LOG-LINE-TOO-LONG",)
    assert "codes" in str(fuzz)
