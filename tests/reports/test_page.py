"""The page and the closing table: whole, escaped, bounded."""

import re

import pytest

from reports import closing, figures, page, wording
from reports.assessment import assess_run
from reports.writes import Write

HOSTILE = "</script><b>bold</b>\x1b[31mred\x1b[0m\u202eevil\u2066 " + "A" * 1_000_000


@pytest.fixture
def shown(made):
    """The page of a run that is built as asked."""

    def render(**given):
        run = made(**given)
        return page.render(assess_run(run.directory), run.directory)

    return render


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(shown, tags_of):
    text = shown(rto=1, findings=[{"code": "ROWS-LOST", "seen": "two"}])
    assert not re.search(r'(src|href)="(?:https?:)?//', text)
    assert not tags_of(text) & {"script", "link", "img", "iframe"}


def test_the_page_says_what_a_reader_must_know(shown):
    text = shown(rto=1_000_000)
    expected = ["Verdict: failed", "stand-in", "RTO-EXCEEDED", "Remedy:", "11/11 caught", "option --rto", "no target"]
    expected += ["rclone serve s3 keeps none", "python -m reports verify", "between 3.83 s and 4.21 s"]
    for words in expected:
        assert words in text


@pytest.mark.parametrize("given", [{"drill_opened": False}, {"run_closed": None}, {"checks": False, "controls": False},
                                   {"observed": False}, {"probes": False}, {"drill_closed": None}])  # fmt: skip
def test_a_run_that_lacks_things_still_has_a_page_and_a_table(made, given):
    run = made(**given)
    assessed = assess_run(run.directory)
    assert "Verdict: " in page.render(assessed, run.directory)
    assert "passed" not in [style for text, style in closing.lines(assessed) if text.startswith("verdict:")]


def test_hostile_text_is_escaped_and_bounded_on_the_page(shown, tags_of):
    text = shown(text=HOSTILE, findings=[{"code": "ROWS-LOST", "seen": HOSTILE, "where": HOSTILE}],
                 not_tested=[{"what": HOSTILE, "reason": HOSTILE}], check_error=HOSTILE)  # fmt: skip
    tags_of(text)
    assert not set(text) & {"\x1b", "\u202e", "\u2066"}
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold" in text
    assert len(text) < 300_000


def test_hostile_text_is_bounded_in_the_terminal(assessed):
    lines = list(
        closing.lines(assessed(text=HOSTILE, check_error=HOSTILE, not_tested=[{"what": "x", "reason": HOSTILE}]))
    )
    assert all(len(text) <= closing.WIDTH and text.isprintable() for text, _ in lines)
    assert len(lines) < 60


def test_the_closing_table_shows_how_sharp_the_recovery_point_is(assessed):
    column = [text[42:58].strip() for text, _ in closing.lines(assessed(lost=0, rpo=1_000_000))]
    assert column[2:5] == ["0 s", "+/-50 ms", "of 1 ms"]


def test_a_run_without_targets_says_so_in_its_head_and_at_its_end(shown, assessed):
    told = [text for text, _ in closing.lines(assessed(rto=None, rpo=None))]
    assert told[-1] == "targets:  no recovery target was set"
    assert "No recovery target was set." in shown(rto=None, rpo=None)
    assert closing.no_target(assessed(rto=1, rpo=None)) == "no recovery target was set for 1 of 2 objectives"
    assert closing.no_target(assessed(rto=1, rpo=1)) == ""


def test_the_page_shows_the_sources_beside_the_commit(shown, assessed):
    suite = assessed()["suite"]
    assert f"commit <code><bdi>{suite['commit'][:12]}</bdi></code>" in shown()
    assert f"its sources <code>{suite['source_sha256'][:12]}</code>" in shown()


def test_the_closing_table_is_plain_and_at_most_a_hundred_columns_wide(assessed):
    lines = [text for text, _ in closing.lines(assessed(rto=1, lost=40, rpo=1, uncaught=["row lost"]))]
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    assert "10/11" in "\n".join(lines)
    assert lines[-1] == "verdict:  failed"


def test_a_page_of_many_drills_has_a_row_for_each_that_leads_to_its_details(shown, builder, tags_of):
    text = shown(more=builder.many(13), left_out=[{"what": "method pgbackrest", "reason": "it refuses server 17"}])
    tags_of(text)
    for number in range(1, 14):
        assert text.count(f'href="#drill-{number}"') == text.count(f'<section id="drill-{number}"') == 1
    assert text.count('<details class="drill">') == 13
    assert "it refuses server 17" in text
    assert "142/143 caught" in text


def test_a_page_of_one_drill_hides_nothing(shown):
    assert "<details" not in shown()


def test_the_page_tells_of_plan_shut_fallback_and_what_was_planted(shown):
    text = shown(plan={"database": "went back before the strike"}, shut=900_000_000, backups=["newer"],
                 chosen="manifest", planted=[{"code": "BACKUP-ARTEFACT-ALTERED", "seen": "toc.dat"}])  # fmt: skip
    for words in ("went back before the strike", "900 ms after the strike", "Not the newest", "9 s old when",
                  "1, planted by the disaster", "planted by the disaster: toc.dat", ">clients shut out<"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("shut", [100_000_000, 300_000_000, 900_000_000])
def test_where_clients_were_shut_out_is_written_within_the_drawing(shown, shut):
    placed = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="(\w+)"[^>]*>clients shut out', shown(shut=shut))
    assert placed
    assert [at for at, anchor in placed if anchor == "start" and float(at) + 100 > figures.WIDTH] == []


def test_the_closing_table_of_many_drills_is_narrow_and_tells_once_what_all_left_out(assessed, builder):
    given = {"more": builder.many(20), "left_out": [{"what": "method pgbackrest", "reason": "it refuses server 17"}]}
    lines = [text for text, _ in closing.lines(assessed(**given))]
    assert all(len(line) <= closing.WIDTH and line.isascii() for line in lines)
    rows = lines[2 : lines.index("")]
    assert 20 <= len(rows) <= 2 * 20 + 10
    assert [line for line in lines if line.startswith("not tested")] == [
        "not tested: method pgbackrest: it refuses server 17",
        "not tested: object tags: rclone serve s3 keeps none (in 20 drills)",
    ]


def test_the_closing_table_of_many_drills_ends_with_what_they_come_to(assessed, builder):
    lines = [text for text, _ in closing.lines(assessed(more=builder.many(13)))]
    told = " ".join(" ".join(lines).split())
    assert "recovery time: median 8.5 s, worst 12.7 s (single-node-pg_basebackup-rclone_crypt-bad_deploy-12)" in told
    assert "13 drills: 2 failed, 11 passed; controls 142/143 caught" in lines
    named = lines.index("single-node-pg_basebackup-rclone_crypt-bad_deploy-4:")
    assert lines[named + 1].startswith("ROWS-LOST")


def test_many_findings_of_many_drills_are_cut_and_counted(assessed, builder):
    many = [
        drill | {"findings": [{"code": "ROWS-LOST", "seen": str(n)} for n in range(9)]} for drill in builder.many(5)
    ]
    lines = [text for text, _ in closing.lines(assessed(more=many))]
    assert lines.count("... and 4 more findings, in the report") == 4


def test_bounded_text_names_what_cannot_be_seen():
    assert wording.bounded("a\x1b[2Jb\u202ec\x00") == "ab<U+202E>c<U+0000>"
    assert len(wording.bounded("x" * 10**7)) < wording.LONGEST + 100


def test_a_lane_is_thinned_without_leaving_a_kind_of_mark_out():
    lane = [Write(n=n, id=str(n), digest="d", attempted_ns=n, acknowledged_ns=n, found=1) for n in range(50_000)]
    lane[31_337].found = 0
    lane[31_338].differs = True
    kept = figures.thin(lane, 0, 50_000)
    assert len(kept) <= figures.MOST_MARKS
    assert {write.fate.value for write in kept} == {"recovered", "lost", "altered"}
