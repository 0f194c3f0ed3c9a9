"""What ``profile check`` says of the newest backup in a repository, on real ones."""

import types

import pytest

from drills.methods.database import barman, pgbackrest
from fixtures.profile_probes.backups import probe_backups
from fixtures.profile_probes.rows import Prober, State
from fixtures.shadow_settings import Kept
from reports.records import NANOSECONDS, Redactor


def told(kept, processes, *, max_age_ns=3600 * NANOSECONDS):
    """The row of the database's backup."""
    profile = types.SimpleNamespace(
        shadow=types.SimpleNamespace(database=kept, objects=Kept()), backup_max_age_ns=max_age_ns
    )
    prober = Prober(seconds=30, redactor=Redactor(), wanted={"shadow"}, told=lambda row: None)
    probe_backups(prober, profile, processes)
    (row,) = [row for row in prober.rows if row.probe == "backup of database"]
    return row


@pytest.fixture(scope="module")
def barmans(make_bench, processes):
    """Where Barman keeps two backups, and its configuration."""
    bench = make_bench(barman.METHOD, fifteen=False).live()
    return Kept(source="barman", server=barman.SERVER, configuration=processes.logs / barman.CONFIGURATION_FILE), bench


@pytest.fixture(scope="module")
def pgbackrests(make_bench):
    """Where pgBackRest keeps two backups, and its configuration."""
    bench = make_bench(pgbackrest.METHOD, fifteen=True).live()
    configuration = bench.job.archive / "pgbackrest.conf"
    return Kept(source="pgbackrest", stanza=pgbackrest.STANZA, configuration=configuration), bench


@pytest.mark.parametrize("repository", ["barmans", "pgbackrests"])
def test_the_newest_backup_is_named_with_its_age_and_an_old_one_is_missing(repository, processes, request):
    kept, bench = request.getfixturevalue(repository)
    tool = barman if repository == "barmans" else pgbackrest
    newest = (bench.second / tool.LABEL_FILE).read_text()
    row = told(kept, processes)
    assert row.state is State.WORKS, row
    label = row.seen.split("backup ")[1].split()[0]
    assert label in newest and label not in (bench.first / tool.LABEL_FILE).read_text()
    old = told(kept, processes, max_age_ns=1)
    assert old.state is State.MISSING and "backup.max_age" in old.seen


def test_a_repository_that_is_not_there_is_missing_and_bars_the_shadow(tmp_path, processes):
    for kept in (
        Kept(source="barman", server="nobody-s", configuration=tmp_path / "none.conf"),
        Kept(source="pgbackrest", stanza="nobody-s", configuration=tmp_path / "none.conf"),
    ):
        row = told(kept, processes)
        assert (row.state, row.bars) == (State.MISSING, ("shadow",))
