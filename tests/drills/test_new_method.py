"""The promise of docs/methods.md: a method is one short new file, and nothing else is edited."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "methods.md"
BLOCK = r"^```python\n(.*?)^```"


@pytest.fixture
def checkout(tmp_path):
    """A copy of what a commit of this tree would hold, and of what is new in it."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a checkout of git: its files cannot be told from what was made beside them")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():  # one that was deleted is still listed
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


def guided():
    """What the guide has a new user save: the path that it names, and the first whole file that it shows."""
    text = GUIDE.read_text("utf-8")
    (path,) = re.findall(r"Saved as `(drills/methods/database/\w+\.py)`", text)
    return Path(path), re.search(BLOCK, text, re.MULTILINE | re.DOTALL)[1]


def test_the_guides_method_is_new_and_shorter_than_forty_lines():
    path, source = guided()
    assert not (ROOT / path).exists()
    assert len(source.splitlines()) < 40
    assert f'name = "{path.stem}"' in source
    assert f"pytest drills -k {path.stem}`" in GUIDE.read_text("utf-8")


@pytest.mark.slow
def test_a_method_in_a_single_new_file_is_drilled_without_any_other_edit(suite, checkout):
    path, source = guided()
    (checkout / path).write_text(source, "utf-8")
    argv = suite.argv("-k", f"{path.stem}-rclone-total_loss")
    ended = subprocess.run(argv, cwd=checkout, env=suite.environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert suite.evidence()["verdict"] == "passed"
    (drill,) = suite.evidence()["drills"]
    assert drill["methods"]["database"] == path.stem
    assert drill["verdict"] == "passed"
