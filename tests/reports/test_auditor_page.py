"""The auditor's page: its order, its figures, its population and its exceptions."""

import re
from pathlib import Path

import pytest

from reports import auditor_facts, auditor_page, page, wording
from reports.assessment import assess_run
from reports.population import PastDrill, PastRun, State
from reports.records import Verdict
from reports.templates import value_at

S = 1_000_000_000
DRILL = "single-node-pg_dump-total_loss"
MARKED = re.compile(r'<span data-path="([^"]+)" data-words="([a-z]+)" data-value="([^"]*)">([^<]*)</span>')


@pytest.fixture
def shown(made):
    """The page of a run that is built as asked, after the given runs, and its evidence."""

    def render(runs=(), **given):
        run = made(**given)
        evidence = assess_run(run.directory)
        return auditor_page.render(evidence, run.directory, list(runs)), evidence

    return render


def past(day, verdict, **given):
    """A run of another day with one drill of the same name."""
    drill = PastDrill(drill=DRILL, architecture="single-node", provider="embedded", level="destroy",
                      disaster="total loss", methods={"database": "pg_dump"}, scale={}, stand_in=True, verdict=verdict,
                      negative_control=False, not_stock="", recovery_time_ns=3 * S)  # fmt: skip
    run_id = f"{day.replace('-', '')}T030000Z-0000"
    return PastRun(**{"run_id": run_id, "directory": Path(run_id), "state": State.CLOSED, "verdict": verdict,
                      "opened_utc": f"{day}T03:00:00Z", "drills": (drill,), "profile": "built-in",
                      **given})  # fmt: skip


def words_of(value, words):
    said = {"duration": wording.duration, "size": wording.size, "count": "{:,}".format, "text": str}
    absent = {"target": "no target", "margin": "—", "duration": "not measured"}
    return absent[words] if value is None else said.get(words, wording.duration)(value)


def test_the_page_keeps_the_order_in_which_an_auditor_asks(shown, tags_of):
    text, _ = shown(rto=1, findings=[{"code": "ROWS-LOST", "seen": "two"}])
    assert not tags_of(text) & {"script", "link", "img", "iframe", "form"}
    assert not re.search(r'(src|href)="(?:https?:)?//', text)
    titles = re.findall(r"<h2[^>]*>(\d+)\. ([^<]+)</h2>", text)
    assert titles == [(str(at), title) for at, (_, title) in enumerate(auditor_page.SECTIONS, start=1)]
    assert len(re.findall("<h1", text)) == 1


def test_every_figure_equals_what_the_evidence_holds_at_its_place(shown, builder):
    text, evidence = shown(more=builder.many(5), rto=1, rpo=9 * S)
    marked = MARKED.findall(text)
    assert len(marked) > 200
    for path, words, value, seen in marked:
        held = value_at(evidence, path)
        assert (value, seen) == ("" if held is None else str(held), words_of(held, words)), path


def test_no_figure_that_was_measured_is_missing(shown, builder):
    text, evidence = shown(more=builder.many(3))
    places = {path for path, *_ in MARKED.findall(text)}
    for at in range(len(evidence["drills"])):
        for path in ("objectives.0.achieved_ns", "objectives.0.target_ns", "objectives.0.margin_ns",
                     "objectives.1.achieved_ns", "recovery_time.uncertainty_ns", "recovery_time.felt.outage_ns",
                     "recovery_point.resolution_ns", "recovery_point.channels.0.lost"):  # fmt: skip
            assert f"drills.{at}.{path}" in places
    assert "controls.score" in places


@pytest.mark.parametrize("given", [{"drill_opened": False}, {"run_closed": None}, {"checks": False, "controls": False},
                                   {"observed": False}, {"probes": False}, {"drill_closed": None}])  # fmt: skip
def test_a_run_that_lacks_things_still_has_a_page_that_does_not_pass(shown, tags_of, given):
    text, evidence = shown(**given)
    tags_of(text)
    assert f'<span class="word {evidence["verdict"]}">{evidence["verdict"]}</span></h1>' in text
    assert evidence["verdict"] != "passed"
    assert "Everything that was tested" not in text


def test_failed_and_aborted_runs_of_the_period_are_told(shown):
    aborted = past("2026-11-02", Verdict.ERROR, state=State.ABORTED, problem="1 drills opened, 0 closed")
    text, _ = shown(runs=[past("2026-07-01", Verdict.FAILED), aborted, past("2026-11-20", Verdict.FAILED)])
    assert '1 <span class="word aborted">aborted</span>, 1 <span class="word failed">failed</span>' in text
    assert "1 older run is not listed" in text
    assert "1 drills opened, 0 closed" in text


def test_a_kind_without_a_success_for_too_long_reads_stale(shown):
    runs = [past("2026-11-01", Verdict.PASSED), past("2026-11-02", Verdict.FAILED)]
    assert re.search(r"20261101T030000Z-0000.*\n?.*>21<.*recent", shown(runs=runs)[0])
    assert ">stale</span>" in shown(runs=runs, context={"stale_days": 20})[0]
    assert ">never a success</span>" in shown(runs=runs[1:])[0]


def test_a_run_that_came_later_is_not_on_the_page(shown):
    assert "20261201T030000Z-0000" not in shown(runs=[past("2026-12-01", Verdict.PASSED)])[0]


def test_a_drill_that_failed_is_followed_to_its_retest(made):
    evidence = assess_run(made().directory)
    failed, again = past("2026-11-01", Verdict.FAILED), past("2026-11-05", Verdict.PASSED)
    assert [row["again"] for row in auditor_facts.retests(evidence, [failed, again])] == [again.run_id]
    (row,) = auditor_facts.retests(evidence, [failed])
    assert (row["again"], row["came_to"]) == (evidence["run_id"], "passed")
    (row,) = auditor_facts.retests(evidence, [past("2026-11-01", Verdict.FAILED, profile="other.toml")])
    assert row["again"] == ""


def test_a_waiver_is_shown_and_changes_no_verdict(shown):
    waivers = [{"covers": "ROWS-LOST", "reason": "known", "owner": "T. Owner", "expires": "2027-01-31"},
               {"covers": "object tags", "reason": "none used", "owner": "T. Owner",
                "expires": "2026-11-21"}]  # fmt: skip
    text, evidence = shown(findings=[{"code": "ROWS-LOST", "seen": "two"}], context={"waivers": waivers})
    assert evidence["verdict"] == "failed"
    assert "2027-01-31</bdi>: in force" in text
    assert '2026-11-21</bdi>: <span class="word failed">expired before this run' in text
    assert "1 waiver had expired before this run." in text


def test_who_ran_it_is_told_and_a_reviewer_who_is_the_operator_is_objected_to(shown):
    ci = {"system": "GitHub Actions", "ids": {"GITHUB_RUN_ID": "42"}}
    text, _ = shown(context={"operator": "R. Roe", "reviewer": "r. roe", "ticket": "CHG-7", "ci": ci})
    for words in ("R. Roe", "CHG-7", "GITHUB_RUN_ID", "Operator and reviewer are the same person"):
        assert words in text
    assert "No operator was named." in shown(context={})[0]


def test_a_stand_in_is_said_to_be_one_whatever_the_profile_says(shown):
    text, _ = shown(context={"data": "production"})
    assert "synthetic: made by the suite for its stand-in (the profile says production, which it is not)" in text


def test_a_control_that_was_not_caught_stands_open_on_the_page(shown):
    text, _ = shown(uncaught=["row lost"])
    assert "<b>Not caught:</b> <bdi>row lost</bdi>" in text


def test_the_record_of_the_tests_is_linked_only_where_it_lies(made):
    run = made()
    assert "report.html" not in auditor_page.render(assess_run(run.directory), run.directory, [])
    (run.directory / "report.html").write_text("")
    assert '<a href="report.html">' in auditor_page.render(assess_run(run.directory), run.directory, [])


REHEARSED = {
    "old": "3.0", "new": "3.1", "verdict": "failed", "reasons": ["it was too slow"], "matrix": [], "checks": [],
    "upgrade_time": {"achieved_ns": S, "lower_ns": 0, "uncertainty_ns": 5},
    "rollback_time": {"achieved_ns": S, "lower_ns": 0, "uncertainty_ns": 5},
    "objective": {"target_ns": None, "source": "unset", "verdict": "no target"},
    "findings": [{"code": "UPGRADE-LOSES-ROWS", "title": "Rows went", "severity": "failure", "seen": "one",
                  "where": "", "remedy": "do not"}],
    "controls": {"planted": 1, "caught": 0, "score": "0/1", "rows": [
        {"control": "row lost by it", "breaks": "a row", "expects": ["UPGRADE-LOSES-ROWS"], "saw": [], "caught": False,
         "error": "", "verdict": "failed", "twin": False}]},
    "not_tested": [{"what": "the way back under load", "reason": "nobody asked"}],
}  # fmt: skip


def test_a_rehearsal_is_counted_and_its_exceptions_and_controls_are_told(made, tags_of):
    run = made()
    text = auditor_page.render(assess_run(run.directory) | {"rehearsal": REHEARSED}, run.directory, [])
    tags_of(text)
    assert "a rehearsal of an upgrade (failed), 1 finding that fails the run" in text
    exceptions, controlled = text[text.index('id="exceptions"') :], text[text.index('id="controls"') :]
    assert "UPGRADE-LOSES-ROWS" in exceptions and "the way back under load" in exceptions
    assert "rehearsal of the upgrade</bdi>: 0/1 caught" in controlled and "row lost by it" in controlled


def test_the_head_and_the_contents_of_a_gates_page_tell_its_decision(made, tags_of):
    run = made()
    decided = {"decision": "no-go", "upgrade": {"old": "3.0", "new": "<3.1>"}, "reasons": []}
    for render in (lambda *given: auditor_page.render(*given, []), page.render):
        text = render(assess_run(run.directory) | {"gate": decided}, run.directory)
        tags_of(text)
        head = text[: text.index('id="gate"')]
        assert "Gate: NO-GO for <bdi>3.0</bdi> → <bdi>&lt;3.1&gt;</bdi>" in head
        assert "Gate:" not in render(assess_run(run.directory), run.directory)


def test_this_run_is_a_stand_ins_like_those_before_it(shown):
    text, _ = shown(runs=[past("2026-11-10", Verdict.PASSED, stand_in=True)])
    assert text.count("closed (stand-in)") == 2


def test_every_file_of_the_run_is_named_with_its_digest(shown):
    text, evidence = shown()
    for name in ("journal.jsonl", f"{DRILL}/ledger.jsonl", f"{DRILL}/observed.jsonl"):
        assert re.search(rf'<a href="{name}"><bdi>{name}</bdi></a></th><td><code>[0-9a-f]{{64}}</code>', text)
    assert f"python -m reports verify reports/runs/{evidence['run_id']} --key" in text


def test_a_page_of_many_drills_stays_small(shown, builder, tags_of):
    text, evidence = shown(more=builder.many(38))
    tags_of(text)
    assert len(evidence["drills"]) == 38
    assert len(text.encode()) < 2_000_000
    for at in range(38):
        assert text.count(f'id="timeline-of-{at}"') == text.count(f'href="#timeline-of-{at}"') == 1


def test_a_population_of_a_thousand_runs_is_bounded_and_counted(shown):
    runs = [past("2026-11-10", Verdict.PASSED, run_id=f"20261110T030000Z-{n:04x}") for n in range(1000)]
    text, _ = shown(runs=runs)
    assert text.count("20261110T030000Z-") < 2 * auditor_page.MOST_RUNS
    assert "and 960 more" in text
    assert "1001 <span" in text
