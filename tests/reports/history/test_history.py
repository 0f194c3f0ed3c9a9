"""``python -m reports history``: what it prints, in three formats."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from reports.__main__ import main
from reports.history import history, stale_restores
from reports.population import last_successes, summary_of
from reports.register import retire


@pytest.fixture
def shown(past, capsys):
    """The exit code, and what the command printed."""

    def run(*options):
        code = main(["history", str(past.directory), *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_every_run_is_listed_newest_first_whatever_became_of_it(past, shown):
    names = [past.add(3).name, past.add(2, verdict="failed").name, past.add(1, aborted=True).name]
    (past.add(0) / "evidence.json").write_text("{")
    code, text = shown()
    assert code == 0
    assert re.findall(r"^(\d{8}T\S+)  ", text, re.MULTILINE)[1:4] == names[::-1]
    assert "4 runs: 2 closed, 1 aborted, 1 broken; of the closed ones 1 passed, 1 failed" in text
    assert "evidence.json cannot be read" in text


def test_the_three_formats_tell_the_same_figures(past, shown):
    past.add(2, seconds=7)
    past.add(1, seconds=5)
    rows = json.loads(shown("--format", "json")[1])["runs"]
    assert [row["recovery_time_worst_ns"] for row in rows] == [5_000_000_000, 7_000_000_000]
    for form in ("text", "html"):
        text = shown("--format", form)[1]
        assert text.index("5 s / 5 s") < text.index("7 s / 7 s")


def test_the_days_since_the_last_success_count_every_run_whatever_is_listed(past, shown, now):
    past.add(400)
    past.add(1, verdict="failed")
    _, text = shown("--since", "2026-11-20")
    assert re.search(
        r"STALE \(more than 90 days\): single-node, the stand-in: a restore last passed \d+ days ago", text
    )
    assert len(json.loads(shown("--since", "2026-11-20", "--format", "json")[1])["runs"]) == 1


@pytest.mark.parametrize(
    ("days", "options", "code"),
    [
        (400, [], 0),
        (400, ["--fail-stale"], 1),
        (400, ["--fail-stale", "--stale-days", "99999"], 0),
        (None, ["--fail-stale"], 1),
    ],
)
def test_a_stale_restore_is_an_exit_status_where_that_is_asked_for(past, shown, days, options, code):
    if days is not None:
        past.add(days)
    assert shown(*options)[0] == code


def test_a_failover_that_passed_makes_no_restore_fresh(past, now):
    past.add(200)
    past.add(1, drill={"level": "failover"})
    assert len(stale_restores(last_successes(past.runs(), now), now, 90)) == 1
    past.add(1, drill={"level": "shadow"})
    assert stale_restores(last_successes(past.runs(), now), now, 90) == []


def test_an_architecture_of_which_only_a_failover_was_drilled_was_never_restored(past, shown):
    past.add(1)
    past.add(1, drill={"level": "failover", "architecture": "high-availability"})
    code, text = shown("--fail-stale", "--stale-days", "99999")
    assert code == 1
    assert "high-availability, the stand-in: no restore has ever passed" in text
    assert "every architecture" not in text


@pytest.mark.parametrize("command", [["history"], ["retain", "--keep-days", "1"], ["controls"], ["guide"], ["verify"]])
def test_a_directory_that_holds_no_run_is_refused_with_the_remedy(tmp_path, capsys, command):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("x")
    for wrong in (tmp_path / "docs", tmp_path / "docs" / "a.md", tmp_path / "absent"):
        assert main([*command, str(wrong)]) == 4
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n"), "Remedy: name" in said.err) == ("", 1, True)


def test_a_run_is_no_directory_of_runs(past, capsys):
    assert main(["history", str(past.add(1))]) == 4
    assert "a run, and no runs directory" in capsys.readouterr().err


def test_a_run_of_a_clock_that_is_ahead_is_told_and_makes_nothing_fresh(past, shown):
    place = past.add(-26_000)
    code, text = shown("--fail-stale")
    assert code == 1
    assert "no restore has ever passed" in text and f"{place.name} was opened after this moment" in text
    assert json.loads(shown("--format", "json")[1])["runs"][0]["ahead_of_time"]


def test_sign_offs_that_were_deleted_with_their_run_are_told(past, shown):
    place = past.add(90)
    (place / "sign-off-1.dsse.json").write_text("")
    retire(past.directory, [(place.name, summary_of(past.runs()[0]))])
    shutil.rmtree(place)
    assert "register: retired, sign-offs deleted with it: 1" in shown()[1]


def test_a_run_that_is_as_old_as_is_allowed_is_not_stale(past, now):
    past.add(90)
    assert history(past.runs(), past.runs(), now).stale == []
    assert history(past.runs(), past.runs(), now, 89).stale


def test_one_drill_can_be_shown_alone_and_an_unknown_one_is_named_with_those_there_are(past, shown):
    past.add(2)
    past.add(1, drill={"drill": "another"})
    rows = json.loads(shown("--drill", "another", "--format", "json")[1])["runs"]
    assert len(rows) == 1
    code, text = shown("--drill", "nope")
    assert code == 4
    assert "no run holds it. Remedy: name one of another, single-node-pg_dump-total_loss" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "yesterday"],
        ["--stale-days", "-1"],
        ["--stale-days", "x"],
        ["--format", "pdf"],
        ["--drill", "\x1b[31m" + "x" * 1_000_000],
    ],
)
def test_an_option_that_makes_no_sense_is_one_clear_line(past, shown, options):
    past.add()
    code, text = shown(*options)
    assert code == 4
    assert "Traceback" not in text and "\x1b" not in text and len(text) < 2_000


def test_what_became_slower_is_told(past, shown):
    slower = {"code": "RECOVERY-SLOWER"}
    place = past.add(drill={"findings": [slower]})
    for form in ("text", "html"):
        assert f"{place.name} slower than the runs before it: single-node" in shown("--format", form)[1]


def test_a_seal_a_signature_and_the_register_are_told_apart(past, shown):
    place = past.add()
    assert "not sealed, not signed, not in the register" in shown()[1]
    for name in ("SHA256SUMS", "attestation.dsse.json", "sign-off-1.dsse.json"):
        (place / name).write_text("")
    assert "sealed, signed, sign-offs: 1, not in the register" in shown()[1]


class Tags(HTMLParser):
    """What a page holds: its elements, and the addresses that it would fetch."""

    def __init__(self):
        super().__init__()
        self.tags, self.fetched = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data")]


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_hostile_names_are_harmless_and_bounded_in_every_format(past, shown, hostile, form):
    past.add(2, drill={"drill": hostile, "architecture": hostile, "disaster": hostile, "provider": hostile},
             profile={"name": hostile}, not_tested=[{"what": hostile, "reason": hostile}])  # fmt: skip
    (past.add(1) / "evidence.json").write_text(json.dumps({"verdict": hostile, hostile: 3}))
    _, text = shown("--format", form)
    assert "\x1b" not in text and "\u202e" not in text and len(text) < 100_000
    if form == "html":
        page = Tags()
        page.feed(text)
        assert "script" not in page.tags and page.fetched == []


def test_a_page_of_no_runs_says_so(past, shown):
    code, text = shown("--format", "html")
    assert code == 0
    assert "no restore was ever drilled" in text and "0 runs" in text
