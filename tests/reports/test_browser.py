"""The auditor's page and report.html in a real browser: nothing loaded, nothing overflows, everything can be read."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from reports import heat_map, wording
from reports.population import PastDrill, PastRun, State
from reports.records import Verdict
from reports.templates import style, value_at

ROOT = Path(__file__).parents[2]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\x1b[31m\u202eevil\u2066\x00"
)
PAGES = ("evidence.html", "report.html")
# Every text node that is shown, its contrast by WCAG 2.2 against the nearest background, and how large it is.
CONTRASTS = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = c => c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => [r, g, b].map(linear).reduce(
    (sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('style, script, title, desc') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    if (!element.closest('.restore-evidence')) continue;  // the rest is the look of pytest-html
    const ink = channels(element.closest('svg') ? style.fill : style.color);
    if (element.matches('.on-bar')) continue;  // on a bar of its own colour, which is no background here
    const [high, dark] = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    if ((high + 0.05) / (dark + 0.05) < 4.5) low.push([node.data.trim().slice(0, 60), style.color, element.className]);
  }
  return low.slice(0, 10);
}"""
MARKED = "nodes => nodes.map(node => [node.dataset.path, node.dataset.words, node.dataset.value, node.textContent])"
REGIONS = """() => [...document.querySelectorAll('.wide')].filter(
  each => each.tabIndex !== 0 || each.getAttribute('role') !== 'region' || !each.getAttribute('aria-label')).length"""
HEADINGS = "nodes => nodes.filter(node => node.checkVisibility()).map(node => Number(node.tagName[1]))"
# An own suite whose drills replay a synthetic journal, so that pytest-html writes its page around ours.
REPLAY = """
import importlib.util, json, pathlib, shutil

def test_drills_of_a_method_with_a_long_name_against_a_disaster_with_another(request, tmp_path):
    run = request.config.pluginmanager.get_plugin("enprivacy-run")
    spec = importlib.util.spec_from_file_location("builder", {builder!r})
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    made = builder.build(tmp_path / "made", **json.loads(pathlib.Path({given!r}).read_text()))
    for event in made.journal.events:
        if event["kind"] not in ("run.opened", "run.closed"):
            run.journal.write(event["kind"], **{{
                key: value for key, value in event.items() if key not in ("n", "t", "utc", "kind", "prev", "hash")}})
    for place in made.directory.iterdir():
        if place.is_dir():
            shutil.copytree(place, run.directory / place.name)
"""


@pytest.fixture(scope="module")
def chromium():
    """A browser; its download is nobody's business here, so the system's is taken."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on PATH: the pages were not looked at in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The directory of a real session over synthetic drills, made as asked, with every file that a run leaves."""

    def run(**given):
        place = tmp_path_factory.mktemp("session")
        (place / "given.json").write_text(json.dumps(given))
        (place / "conftest.py").write_text('pytest_plugins = ["reports.plugin"]\n')
        (place / "pyproject.toml").write_text('[tool.pytest]\ntestpaths = ["drills"]\n')
        (place / "drills").mkdir()
        builder = str(ROOT / "tests/reports/conftest.py")
        text = textwrap.dedent(REPLAY).format(builder=builder, given=str(place / "given.json"))
        (place / "drills/test_replay.py").write_text(text)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        ended = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=place, text=True,
                               capture_output=True, timeout=120, env={**clean, "PYTHONPATH": str(ROOT)})  # fmt: skip
        (directory,) = (each for each in (place / "reports/runs").iterdir() if each.is_dir())
        assert {*PAGES} <= {each.name for each in directory.iterdir()}, ended.stdout + ended.stderr
        return directory

    return run


@pytest.fixture(scope="module")
def directory(replayed):
    """A run with several drills, findings and all that a profile can say."""
    waiver = {"covers": "ROWS-LOST", "reason": "known", "owner": "T. Owner", "expires": "2020-01-31"}
    planted = [{"code": "ROWS-LOST", "seen": "two of them", "where": "documents"}]
    return replayed(rto=1, rpo=9_000_000_000, deletions=20, shut=800_000_000, uncaught=["row lost"], findings=planted,
                    context={"operator": "R. Roe", "reviewer": "S. Low", "waivers": [waiver]},
                    more=[{"name": "single-node-pg_dump-two", "lost": 0, "rto": None}])  # fmt: skip


@pytest.fixture
def opened(chromium):
    """Open a file and hand back its page; whatever the browser complained of or asked for is in the second list."""
    pages = []

    def load(path, *, width=1280, scheme="light"):
        page, heard = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
        pages.append(page)
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(path.as_uri())
        return page, [each for each in heard if each != path.as_uri()]

    yield load
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_complains_of_nothing(directory, opened, name):
    page, heard = opened(directory / name)
    assert [each for each in heard if not each.startswith("data:")] == []
    assert page.title()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_every_text_can_be_read_and_no_page_is_wider_than_the_screen(directory, opened, name, width, scheme):
    page, _ = opened(directory / name, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('.restore-evidence details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRASTS) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_on_a_page_equals_the_evidence(directory, opened, name):
    page, _ = opened(directory / name)
    evidence = json.loads((directory / "evidence.json").read_text("utf-8"))
    marked = page.eval_on_selector_all("[data-path]", MARKED)
    assert len(marked) > 100
    for path, words, value, seen in marked:
        held = value_at(evidence, path)
        assert value == ("" if held is None else str(held)), path
        if words == "duration":
            assert seen == wording.duration(held), path


def test_headings_follow_one_another_and_what_scrolls_can_be_reached(directory, opened):
    page, _ = opened(directory / "evidence.html")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    levels = page.eval_on_selector_all("h1, h2, h3, h4, h5, h6", HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert page.evaluate(REGIONS) == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].filter("
                         "each => !document.getElementById(each.hash.slice(1))).length") == 0  # fmt: skip
    assert page.locator("html[lang=en]").count() == page.locator("main").count() == page.locator("nav").count() == 1


def test_ids_are_unique(directory, opened):
    page, _ = opened(directory / "evidence.html")
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(node => node.id)")
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_on_paper_the_details_are_opened_and_nothing_is_cut_off(directory, opened, paper):
    page, _ = opened(directory / "evidence.html")
    printed = page.pdf(format=paper)
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type /Page/") > 5
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # what is left of A4 between its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    hidden = (
        "() => [...document.querySelectorAll('details table')].filter(each => !each.getClientRects().length).length"
    )
    assert page.evaluate(hidden) == 0


def test_hostile_text_runs_nowhere_and_stays_small(replayed, opened):
    text = HOSTILE + "A" * 1_000_000
    said = {"operator": text, "reviewer": text, "ticket": text, "environment": text, "in_scope": [text],
            "out_of_scope": [text], "ci": {"system": text, "ids": {"JOB": text}},
            "waivers": [{"covers": text, "reason": text, "owner": text, "expires": "2027-01-31"}]}  # fmt: skip
    found = [{"code": "ROWS-LOST", "seen": text, "where": text}]
    remarks = [{"what": text, "reason": text}]
    directory = replayed(
        text=text, check_error=text, findings=found, context=said, not_tested=remarks, left_out=remarks
    )
    for name in PAGES:
        page, heard = opened(directory / name)
        assert [each for each in heard if not each.startswith("data:")] == []
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        seen = page.evaluate("document.body.textContent")
        assert not set(seen) & {"\u202e", "\u2066", "\x1b", "\x00"}
        assert "<U+202E>" in seen
        assert (directory / name).stat().st_size < 2_000_000


COLLISIONS = """() => {
  const frame = document.querySelector('svg').getBoundingClientRect();
  const texts = [...document.querySelectorAll('svg text')].map(node => [node, node.getBoundingClientRect()]);
  const outside = texts.filter(([, at]) => at.left < frame.left || at.right > frame.right || at.top < frame.top);
  const level = texts.filter(([node]) => !node.hasAttribute('transform'));
  const across = level.filter(([, at]) => level.some(([, of]) => of !== at && at.left < of.right - 1
    && of.left < at.right - 1 && at.top < of.bottom - 2 && of.top < at.bottom - 2));
  return [...outside, ...across].map(([node]) => node.textContent);
}"""


def test_no_name_of_a_coverage_map_lies_over_another_or_outside_of_it(chromium):
    names = [f"{which}_{'and_a_very_long_name' * 3}" for which in range(20)]
    drills = tuple(PastDrill(drill="d", architecture="a", provider="p", level="destroy", disaster=name, scale={},
                             methods={"configuration": name, "database": name}, stand_in=True, not_stock="",
                             verdict=Verdict.PASSED, negative_control=False) for name in names)  # fmt: skip
    run = PastRun(run_id="r", directory=Path(), state=State.CLOSED, verdict=Verdict.PASSED, drills=drills)
    (drawn,) = heat_map.heat_maps([run], "map")
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.set_content(f'<style>{style("shared.css")}</style><div class="restore-evidence">{drawn.svg}</div>')
    assert page.locator("svg text").count() > 800
    assert page.evaluate(COLLISIONS) == []
    page.close()
