"""Chains of a full base backup and increments, each set complete by itself."""

import shutil

import pytest

from drills.contract import Means
from drills.methods.database import basebackup_incremental
from fixtures.postgres_tools import PostgresTools
from fixtures.processes import CommandFailed
from reports.records import HarnessError


@pytest.fixture
def incremental(make_site):
    return make_site(stream=True, method=basebackup_incremental.METHOD)


def test_every_set_of_a_growing_chain_is_complete_by_itself(incremental):
    first = incremental.back_up(1)
    incremental.insert(1001)
    second = incremental.back_up(2, previous=first)
    assert sorted(path.name for path in second.iterdir()) == ["1-full", "2-incremental", "3-incremental"]
    incremental.insert(1002)
    shutil.rmtree(first)
    incremental.lose_server()
    assert incremental.findings(second) == []
    incremental.restore(second)
    assert incremental.numbers() == [1001, 1002]


def test_damage_to_the_newest_set_does_not_reach_the_one_before(incremental):
    first = incremental.back_up(1)
    second = incremental.back_up(2, previous=first)
    for path in second.rglob("PG_VERSION"):
        path.write_text("no version\n")
    incremental.lose_server()
    with pytest.raises(HarnessError):
        incremental.restore(second)
    shutil.rmtree(incremental.server.data, ignore_errors=True)
    incremental.restore(first)
    assert incremental.one("SELECT count(*) FROM kept") == 1000


def test_an_increment_is_smaller_than_what_it_builds_on(incremental):
    incremental.execute("CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS t FROM generate_series(1, 5000) n")
    backup = incremental.back_up()
    full, increment = (
        sum(path.stat().st_size for path in (backup / part).rglob("*") if path.is_file())
        for part in ("1-full", "2-incremental")
    )
    assert increment < full / 4


def test_damage_that_combining_would_cover_up_is_seen_before(incremental):
    incremental.execute("CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS t FROM generate_series(1, 5000) n")
    backup = incremental.back_up()
    largest = max((backup / "1-full" / "base").rglob("*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size - 8192)
    incremental.lose_server()
    with pytest.raises(CommandFailed, match="pg_verifybackup"):
        incremental.restore(backup)


@pytest.mark.parametrize("lacking", ["1-full", "2-incremental"])
def test_a_chain_that_lacks_a_part_is_refused(incremental, lacking):
    first = incremental.back_up(1)
    second = incremental.back_up(2, previous=first)
    shutil.rmtree(second / lacking)
    incremental.lose_server()
    with pytest.raises(HarnessError, match="the chain of backups"):
        incremental.restore(second)


def test_where_increments_are_not_to_be_had_the_reason_is_given(tmp_path):
    def means(version):
        tools = PostgresTools(directory=tmp_path, version=version, found="here")
        return Means(tools=tools, processes=None, commands={}, versioned_bucket=False)

    unavailable = basebackup_incremental.METHOD.unavailable
    assert unavailable(means("15.8")) == "PostgreSQL 15.8 makes no incremental backups; 17 does"
    assert unavailable(means("17.2")) == f"no pg_combinebackup in {tmp_path}"
    (tmp_path / "pg_combinebackup").touch()
    assert unavailable(means("17.2")) == ""
