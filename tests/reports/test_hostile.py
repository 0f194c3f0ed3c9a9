"""Text from outside, wherever the suite shows it: escaped, named where it cannot be seen, bounded."""

import json
import re

import pytest

from reports import artefacts, auditor_page, closing, notice, page, webhook, wording
from reports.__main__ import main
from reports.assessment import assess_run
from reports.population import read

SHORT = (
    "</script><script>hacked()</script><img src=x onerror=hacked()>\x1b[31m\x1b]8;;x\x07\u202eevil\u2066\x00`|[x](y)`"
)
LONG = SHORT + "A" * 1_000_000
# What no line of a terminal, no page and no message may hold: escapes, NUL, and signs that turn the direction of text.
UNSEEN = re.compile("[\x00\x07\x1b\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
PLACES = ("operator", "reviewer", "ticket", "environment")


def said_by(text):
    """What a profile says in its [evidence], all of it this text."""
    waiver = {"covers": text, "reason": text, "owner": text, "expires": "2027-01-31"}
    ci = {"system": text, "ids": {"JOB": text}}
    return {**dict.fromkeys(PLACES, text), "in_scope": [text], "out_of_scope": [text], "waivers": [waiver], "ci": ci}


@pytest.mark.parametrize("sign", [0xAD, 0x34F, 0x180E, 0x200D, 0x2060, 0x2064, 0x206A, 0x2800, 0x3164, 0xFE0F, 0xFFA0,
                                  0xFFF9, 0x1D173, 0xE0041, 0xE0100])  # fmt: skip
def test_a_sign_that_nobody_can_see_is_spelled_out(sign):
    assert wording.one_line(f"a{chr(sign)}b") == f"a<U+{sign:04X}>b"


@pytest.mark.parametrize("text", ["naïve Straße", "日本語", "עברית", "हिन्दी", "🙂"])
def test_what_can_be_seen_is_left_as_it_is(text):
    assert wording.one_line(text) == text


@pytest.fixture(scope="module")
def kept():
    """The runs made so far, by their text: a megabyte in each place takes its time."""
    return {}


@pytest.fixture
def hostile(tmp_path_factory, builder, kept):
    """A runs directory with one run of two drills, the text wherever it can come from outside; and its evidence."""

    def build(text):
        runs = tmp_path_factory.mktemp("hostile")
        found = [{"code": "OBJECT-LOST", "seen": f"object {text}", "where": text}]
        remark = {"what": text, "reason": text}
        run = builder.build(runs / "20261122T210403Z-4f9a", text=text, check_error=text, findings=found,
                            context=said_by(text), not_tested=[remark], left_out=[remark], plan={"database": text},
                            more=[{"name": f"a{text[:60]}".replace("/", "-").replace("\0", ""), "rto": 1}])  # fmt: skip
        opened = next(event for event in run.journal.events if event["kind"] == "run.opened")
        opened["profile"]["name"] = text
        opened["host"]["system"] = text
        for event in run.journal.events:
            if event["kind"] == "drill.opened":
                event["architecture"] = event["provider"] = text
                event["objectives"]["rto"]["source"] = text
                event["scale"] = {"name": text}
                event["tools"] = {"server": text}
                event["methods"] = {**event["methods"], "database": text}
                event["deployment"] = {"name": text, "bucket": text}
        builder.rechain(run)
        evidence = assess_run(run.directory)
        (run.directory / "evidence.json").write_text(json.dumps(evidence))
        return run.directory, evidence

    return lambda text: kept.get(text) or kept.setdefault(text, build(text))


@pytest.mark.parametrize("text", [SHORT, LONG], ids=["short", "a megabyte"])
@pytest.mark.parametrize("render", [auditor_page.render, lambda evidence, place, _: page.render(evidence, place)],
                         ids=["evidence.html", "report.html"])  # fmt: skip
def test_a_page_shows_it_as_text(hostile, tags_of, render, text):
    directory, evidence = hostile(text)
    shown = render(evidence, directory, read(directory.parent))
    assert not tags_of(shown) & {"script", "img"}
    assert "&lt;script&gt;hacked()" in shown
    assert "&lt;U+202E&gt;" in shown
    assert not UNSEEN.search(shown)
    assert len(shown.encode()) < 2_000_000


def test_the_terminal_shows_it_in_short_plain_lines(hostile):
    lines = [text for text, _ in closing.lines(hostile(LONG)[1])]
    assert all(len(line) <= closing.WIDTH and line.isprintable() for line in lines)
    assert len(lines) < 120


@pytest.mark.parametrize("arguments", [
    ["history"], ["history", "--format", "json"], ["history", "--format", "html"], ["controls", "--format", "md"],
    ["controls", "--format", "json"], ["controls", "--format", "html"], ["guide"], ["guide", "--format", "html"],
], ids=" ".join)  # fmt: skip
def test_a_command_shows_it_as_text_in_each_of_its_formats(hostile, tags_of, capsys, arguments):
    runs = str(hostile(LONG)[0].parent)
    assert main([*arguments, *([runs] if arguments[0] == "history" else ["--runs-directory", runs])]) in (0, 1)
    shown = capsys.readouterr().out
    assert shown
    assert len(shown) < 2_000_000
    if "html" in arguments:
        assert not tags_of(shown) & {"script", "img"}
    elif "json" in arguments:
        assert json.loads(shown)
    elif arguments[0] != "history":  # of Markdown; in a terminal a tag is text
        assert "<script>" not in shown
    assert not UNSEEN.search(shown)


def test_a_webhook_is_told_in_short(hostile):
    told = json.dumps(webhook.payload(notice.of_run(hostile(LONG)[0], "")), ensure_ascii=False)
    assert len(told) < 100_000
    assert not UNSEEN.search(told)


def test_every_artefact_that_is_written_beside_the_evidence_is_bounded(hostile):
    directory, evidence = hostile(LONG)
    for name, render in artefacts.RENDERERS.items():
        written = render(evidence, directory, read(directory.parent))
        assert len(written.encode()) < 2_000_000, name
        assert not UNSEEN.search(written), name
