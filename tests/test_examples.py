"""What the examples say is what the suite does."""

import dataclasses
import json
from pathlib import Path

import pytest

from fixtures.profile import DATA, load_profile

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_an_example_profile_is_accepted(path):
    assert load_profile(path, {}).name


def test_the_full_example_shows_the_defaults(tmp_path):
    bare = tmp_path / "bare.toml"
    bare.write_text('[deployment]\nname = "single-node"\n[objectives]\nrto = "4h"\nrpo = "1h"\n')
    own = {"path": None, "sha256": None}
    assert dataclasses.replace(load_profile(EXAMPLES / "single-node.toml", {}), **own) == dataclasses.replace(
        load_profile(bare, {}), **own
    )


def test_the_full_example_names_every_key():
    text = (EXAMPLES / "single-node.toml").read_text("utf-8")
    sections = json.loads((DATA / "profile.schema.json").read_text("utf-8"))["properties"]
    assert [key for section in sections.values() for key in section["properties"] if key not in text] == []
