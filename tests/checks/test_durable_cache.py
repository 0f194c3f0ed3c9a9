import threading

import pytest

from checks.durable_cache import (
    cache_in_set,
    decided,
    holds_model,
    judge_durable,
    judge_holdings,
    judge_starts,
    read_cache,
)
from fixtures.refapp.model import MODEL_FILE, MODEL_ID, preload_model

FIRST = {"huggingface/hub/models--a--b/snapshots/1/model.json": (1, 10, 100)}
SHA = "a" * 64


def test_a_preloaded_cache_holds_its_model(tmp_path):
    preload_model(tmp_path)
    files = read_cache(tmp_path / ".cache", MODEL_ID)
    assert holds_model(files)
    assert any(name.endswith(MODEL_FILE) for name in files)


def test_a_cache_that_is_not_there_holds_nothing(tmp_path):
    assert read_cache(tmp_path / "absent", MODEL_ID) == {}
    assert not holds_model({})


def test_what_is_still_being_fetched_is_no_model(tmp_path):
    blobs = tmp_path / "huggingface" / "hub" / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "1234.incomplete").touch()
    assert read_cache(tmp_path, "a/b") == {}


def test_directories_that_come_and_go_while_it_is_read_are_no_matter(tmp_path):
    preload_model(tmp_path)
    (repository,) = (tmp_path / ".cache" / "huggingface" / "hub").glob("models--*")
    before, done = read_cache(tmp_path / ".cache", MODEL_ID), threading.Event()

    def come_and_go():
        while not done.is_set():
            (repository / "tmp0").mkdir()
            (repository / "tmp0").rmdir()

    coming = threading.Thread(target=come_and_go)
    coming.start()
    try:
        assert all(read_cache(tmp_path / ".cache", MODEL_ID) == before for _ in range(500))
    finally:
        done.set()
        coming.join()


def test_a_cache_that_stayed_as_it_was_is_silent():
    assert judge_durable("llm", first=FIRST, second=FIRST, downloads=0) == []
    assert judge_durable("llm", first=FIRST, second=FIRST, downloads=None) == []


@pytest.mark.parametrize(
    ("first", "second", "downloads", "seen"),
    [
        ({}, {}, 0, "holds none"),
        (FIRST, {}, 0, "1 files gone"),
        (FIRST, dict.fromkeys(FIRST, (2, 10, 100)), 0, "1 files written again"),
        (FIRST, FIRST, 2, "2 files fetched again"),
    ],
)
def test_a_cache_that_did_not_last_is_found(first, second, downloads, seen):
    (finding,) = judge_durable("llm", first=first, second=second, downloads=downloads)
    assert finding.code == "CACHE-NOT-DURABLE"
    assert seen in finding.seen


def test_one_slow_start_does_not_hide_that_the_cache_helps():
    findings, looked_at = judge_starts("llm", [900_000, 950_000, 910_000], [400_000, 5_000_000, 410_000], least_gain=10)
    assert findings == []
    assert looked_at == {"cold start, median us": 910, "warm start, median us": 410, "starts timed": 6}


@pytest.mark.parametrize("warm", [[890_000], [910_000], [2_000_000]])
def test_a_gain_smaller_than_asked_for_is_found(warm):
    (finding,), _ = judge_starts("llm", [900_000], warm, least_gain=10)
    assert finding.code == "CACHE-NO-FASTER"


@pytest.mark.parametrize(("warm", "enough"), [(500, True), (900, True), (950, False), (1100, False), (1500, True)])
def test_starts_are_repeated_only_while_they_cannot_be_told_apart(warm, enough):
    assert decided([1000], [warm], least_gain=10) is enough


def test_a_moment_s_load_on_the_starts_with_the_cache_decides_nothing():
    assert not decided([600, 610, 620], [350, 900, 2000], least_gain=10)
    assert decided([600, 610, 620, 600, 610], [350, 900, 2000, 350, 350], least_gain=10)


def test_data_that_went_with_the_cache_are_named():
    (finding,) = judge_holdings({"objects": {"a", "b"}, "rows": {"1"}}, {"objects": {"b", "c"}, "rows": {"1"}})
    assert (finding.code, finding.count) == ("CACHE-HELD-DATA", 1)
    assert "objects: a" in finding.seen


@pytest.mark.parametrize(
    "name",
    [
        "objects/home/.cache/huggingface/hub/version.txt",
        "database/base.tar/home/x/models--a--b/blobs/1234",
        "objects/models--a--b/snapshots/1/model.json",
    ],
)
def test_a_cache_in_a_backup_is_known_by_its_names(name):
    (finding,) = cache_in_set([name, "objects/workspaces/a"], [], {})
    assert finding.code == "CACHE-IN-BACKUP"


def test_a_cache_in_a_backup_is_known_by_its_content_under_any_name():
    (finding,) = cache_in_set(["objects/a"], [("objects/a", SHA)], {SHA: "llm's model"})
    assert "objects/a, which is llm's model" in finding.seen


@pytest.mark.parametrize("name", ["objects/models--a", "objects/my-blobs/snapshots", "database/dump/toc.dat"])
def test_names_that_only_resemble_a_cache_are_silent(name):
    assert cache_in_set([name], [(name, "b" * 64)], {SHA: "llm's model"}) == []
