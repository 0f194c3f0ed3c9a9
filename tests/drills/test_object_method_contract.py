"""What every way to back a bucket up must do: one suite over all of them, on real S3 servers."""

import dataclasses
import datetime
import io
import os
import secrets
import shutil
import sys
from pathlib import Path

import pyrage
import pytest
from minio.versioningconfig import ENABLED, VersioningConfig

from drills import registry
from drills.contract import Job, KeepsInBucket, KeepsInStore, Means, NeedsMeans, Target
from drills.methods.objects import versions
from fixtures.deployment import ObjectStore
from fixtures.network import LOOPBACK, free_ports, listening
from fixtures.postgres_tools import find_postgres
from fixtures.processes import Processes
from fixtures.profile import load_profile
from fixtures.providers.embedded.object_server import EmbeddedObjectServer
from reports.records import Clock, HarnessError, Redactor, pause, utc_now, utc_stamp, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "commands.toml"
SECRET, PASSPHRASE = "only-for-these-tests", "a passphrase with 'quotes', $dollars and ünicode"
AWKWARD = {
    "empty": b"",
    "ünï/çødé 文档.pdf": b"unicode",
    "with space/ a  b.txt": b"spaces",
    "dots/..a/.hidden/b...": b"dots",
    "percent/100%25 +&=?.txt": b"percent",
    "/".join(f"level{number}" for number in range(30)): b"deep",
    "five-mebibytes.bin": bytes(range(256)) * (5 * 2**20 // 256),
}
SWIFT = Path(__file__).with_name("swift.conf").read_text("utf-8")
PROXY = "catch_errors gatekeeper cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink"
FILTERS = {"cache": "memcache_servers = 127.0.0.1:9", "s3api": "location = us-east-1", "tempauth":
           f"user_tests_operator = {SECRET} .admin", "versioned_writes": "allow_object_versioning = true"}  # fmt: skip
RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(("account", "container", "object"), sys.argv[2:]):
    ring = RingBuilder(2, 1, 0)
    here = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": "", **here})
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


@pytest.fixture(scope="module")
def finished():
    return []


@pytest.fixture(scope="module")
def processes(tmp_path_factory, finished):
    processes = Processes(
        run_id=f"tests-{secrets.token_hex(4)}", logs=tmp_path_factory.mktemp("contract") / "logs", clock=Clock.start(),
        redactor=Redactor(), record=finished.append,
    )  # fmt: skip
    yield processes
    for running in processes.services:
        running.kill_tree()


@pytest.fixture(scope="module")
def server(processes, tmp_path_factory):
    server = EmbeddedObjectServer(
        directory=tmp_path_factory.mktemp("objects") / "store", port=free_ports(1)[0], bucket="unused",
        access_key="tests-operator", secret_key=SECRET, processes=processes, start_seconds=30,
    )  # fmt: skip
    server.initialise()
    server.launch(clients={})
    server.await_ready()
    return server.handle


def swift_program(name):
    place = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return place and Path(place)


@pytest.fixture(scope="module")
def versioned_server(processes, tmp_path_factory):
    """OpenStack Swift, an S3 server that keeps versions; none where it is not installed."""
    if swift_program("swift-proxy-server") is None:
        return None
    directory, ports = tmp_path_factory.mktemp("swift"), free_ports(4)
    (directory / "devices" / "d1").mkdir(parents=True)
    (directory / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = t\n[storage-policy:0]\nname = one\n")
    python = swift_program("swift-proxy-server").with_name("python")
    processes.run([python, "-c", RINGS, directory, *map(str, ports[:3])], timeout=30)
    for kind, port in zip(("account", "container", "object", "proxy"), ports, strict=True):
        about = {"kind": kind, "port": port, "directory": directory, "user": os.environ.get("USER", "root")}
        text = SWIFT.format(**about, pipeline=f"{PROXY} proxy-server" if kind == "proxy" else f"{kind}-server")
        for name in PROXY.split() if kind == "proxy" else ():
            text += f"[filter:{name}]\nuse = egg:swift#{'memcache' if name == 'cache' else name}\n"
            text += FILTERS.get(name, "") + "\n"
        (directory / f"{kind}.conf").write_text(text)
        processes.start(f"swift-{kind}", [swift_program(f"swift-{kind}-server"), directory / f"{kind}.conf"])
    wait_until(lambda: all(map(listening, ports)), seconds=30, interval=0.05, what="Swift's four servers")
    return ObjectStore(
        endpoint=f"http://{LOOPBACK}:{ports[3]}", bucket="unused", access_key="tests:operator", secret_key=SECRET
    )


@dataclasses.dataclass
class World:
    """A bucket of the test's own, a method, and where its backup lies."""

    method: object
    store: ObjectStore
    backup: Path
    job: Job

    @property
    def client(self):
        return self.store.client()

    def put(self, key, content):
        self.client.put_object(self.store.bucket, key, io.BytesIO(content), len(content))

    def delete(self, *keys):
        for key in keys:
            self.client.remove_object(self.store.bucket, key)

    def contents(self):
        def read(key):
            with self.client.get_object(self.store.bucket, key) as response:
                return response.read()

        listed = self.client.list_objects(self.store.bucket, recursive=True)
        return {item.object_name: read(item.object_name) for item in listed}

    def back_up(self):
        self.method.back_up(self.store, self.backup, self.job)

    def restore(self, **changed):
        self.method.restore(self.backup, self.store, dataclasses.replace(self.job, **changed))


def new_bucket(server):
    name = f"bucket-{secrets.token_hex(4)}"
    server.client().make_bucket(name)
    return dataclasses.replace(server, bucket=name)


@pytest.fixture
def make_world(processes, server, versioned_server, tmp_path):
    def make(method):
        versioned = isinstance(method, KeepsInBucket)
        tools, commands = find_postgres(processes, None), load_profile(EXAMPLE, {}).commands
        means = Means(tools=tools, processes=processes, commands=commands, versioned_bucket=bool(versioned_server))
        if isinstance(method, NeedsMeans) and (reason := method.unavailable(means)):
            pytest.skip(reason)
        store = new_bucket(versioned_server if versioned else server)
        if versioned:
            store.client().set_bucket_versioning(store.bucket, VersioningConfig(ENABLED))
        identity = pyrage.x25519.Identity.generate()
        job = Job(processes=processes, jobs=2, seconds=60, recipient=str(identity.to_public()), archive=tmp_path,
                  identity=str(identity), passphrase=PASSPHRASE, commands=commands,
                  store=new_bucket(server) if isinstance(method, KeepsInStore) else None)  # fmt: skip
        return World(method=method, store=store, backup=tmp_path / f"set-{store.bucket}" / "objects", job=job)

    return make


@pytest.fixture(params=sorted(registry.object_methods()))
def world(make_world, request):
    return make_world(registry.object_methods()[request.param])


def test_everything_comes_back_byte_for_byte(world):
    for key, content in AWKWARD.items():
        world.put(key, content)
    world.back_up()
    world.back_up()
    world.delete(*AWKWARD)
    assert world.contents() == {}
    world.restore()
    assert world.contents() == AWKWARD


def test_an_empty_bucket_is_backed_up_and_restored(world):
    world.back_up()
    world.back_up()
    world.restore()
    assert world.contents() == {}


def test_the_second_call_adds_what_is_new_to_an_empty_first_one(world):
    world.back_up()
    world.put("new", b"new")
    world.back_up()
    world.delete("new")
    world.restore()
    assert world.contents() == {"new": b"new"}


def test_the_second_call_adds_what_is_new_and_removes_nothing(world):
    world.put("deleted", b"deleted meanwhile")
    world.put("stays", b"stays")
    world.back_up()
    world.delete("deleted")
    world.put("new", b"new")
    world.back_up()
    world.delete("stays", "new")
    world.restore()
    assert world.contents() == {"deleted": b"deleted meanwhile", "stays": b"stays", "new": b"new"}


def test_an_object_overwritten_at_the_same_size_comes_back_in_its_newer_form(world):
    world.put("document", b"first")
    world.put("other", b"other")
    world.back_up()
    world.put("document", b"later")
    world.back_up()
    world.delete("document", "other")
    world.restore()
    assert world.contents() == {"document": b"later", "other": b"other"}


def test_objects_that_the_bucket_has_are_left_alone(world):
    world.put("kept", b"as backed up")
    world.put("lost", b"lost")
    world.back_up()
    world.back_up()
    world.delete("lost")
    world.put("kept", b"written afterwards")
    world.put("newer", b"newer")
    world.restore()
    assert world.contents() == {"kept": b"written afterwards", "lost": b"lost", "newer": b"newer"}


def test_a_damaged_backup_fails_or_is_seen_afterwards(world):
    whole = {"a/large": b"x" * 100_000, "b/small": b"small"}
    for key, content in whole.items():
        world.put(key, content)
    world.back_up()
    victim = max((path for path in world.backup.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(victim, victim.stat().st_size // 2)
    world.delete(*whole)
    try:
        world.restore()
    except HarnessError:
        return
    assert world.contents() != whole


def test_a_backup_that_is_not_there_fails_loudly(world):
    with pytest.raises(HarnessError):
        world.restore()


def test_no_secret_stands_in_an_argument_list_or_stays_behind_in_a_file(world, finished, processes):
    world.put("document", b"document")
    world.back_up()
    world.restore()
    words = " ".join(word for command in finished for word in command.argv)
    secret = (SECRET, "operator", PASSPHRASE, world.job.identity)
    assert [value for value in secret if value in words] == []
    assert list(processes.logs.glob("secret-*")) == []


@pytest.mark.parametrize("name", [name for name, method in registry.object_methods().items() if method.plain])
def test_a_plain_backup_has_one_file_for_each_object_named_by_its_key(make_world, name):
    world = make_world(registry.object_methods()[name])
    for key, content in AWKWARD.items():
        world.put(key, content)
    world.back_up()
    files = {path.relative_to(world.backup).as_posix(): path for path in world.backup.rglob("*") if path.is_file()}
    assert {key: path.read_bytes() for key, path in files.items()} == AWKWARD


@pytest.fixture
def encrypted(make_world):
    world = make_world(registry.object_methods()["rclone_crypt"])
    world.put("tenant/readable-name", b"readable content " * 50)
    world.back_up()
    return world


def test_an_encrypted_backup_shows_neither_names_nor_contents(encrypted):
    files = [path for path in encrypted.backup.rglob("*") if path.is_file()]
    assert files
    assert "readable" not in " ".join(map(str, files)) + "tenant" * any(encrypted.backup.glob("*tenant*"))
    assert all(b"readable" not in path.read_bytes() for path in files)


@pytest.mark.parametrize("wrong", ["another passphrase", ""])
def test_a_wrong_passphrase_is_refused_in_words_and_restores_nothing(encrypted, wrong):
    encrypted.delete("tenant/readable-name")
    with pytest.raises(HarnessError, match=r"passphrase.*Remedy: (give the|set) backup\.passphrase"):
        encrypted.restore(passphrase=wrong)
    assert encrypted.contents() == {}


def test_two_backup_sets_in_one_store_do_not_mix(make_world):
    world = make_world(registry.object_methods()["rclone_bucket"])
    other = dataclasses.replace(world, backup=world.backup.parents[1] / "other-set" / "objects")
    world.put("first", b"first")
    world.back_up()
    world.delete("first")
    world.put("second", b"second")
    other.back_up()
    world.delete("second")
    other.restore()
    assert world.contents() == {"second": b"second"}


def test_a_name_that_another_set_has_taken_in_the_store_is_refused(make_world):
    world = make_world(registry.object_methods()["rclone_bucket"])
    world.put("first", b"first")
    world.back_up()
    shutil.rmtree(world.backup)
    with pytest.raises(HarnessError, match="objects of another backup set of this name"):
        world.back_up()


def test_versions_go_back_to_the_instant_and_keep_what_came_after_it(make_world):
    world = make_world(registry.object_methods()["versions"])
    for key in ("overwritten", "deleted", "deleted twice", "untouched"):
        world.put(key, b"before")
    world.put("gone before", b"before")
    world.delete("gone before")
    pause(2.1, why="the store tells whole seconds")
    until = Target(name="", time=utc_stamp(), lsn="")
    pause(2.1, why="the store tells whole seconds")
    world.put("overwritten", b"after!")
    world.put("created", b"after")
    world.put("deleted twice", b"after")
    world.delete("deleted", "deleted twice")
    world.back_up()
    world.restore(until=until)
    same = dict.fromkeys(("overwritten", "deleted", "deleted twice", "untouched"), b"before")
    assert world.contents() == same | {"created": b"after"}


def test_a_bucket_without_versioning_is_no_backup(make_world):
    world = make_world(registry.object_methods()["versions"])
    world.store = new_bucket(world.store)
    with pytest.raises(HarnessError, match=r"never enabled\. Remedy: enable it"):
        world.back_up()


@dataclasses.dataclass
class Entry:
    """A version or delete marker as a store lists it, written this many seconds after the instant."""

    seconds: float
    is_delete_marker: bool = False
    is_latest: str | bool = "false"
    object_name: str = "key"

    @property
    def last_modified(self):
        return INSTANT + datetime.timedelta(seconds=self.seconds)


INSTANT = utc_now().replace(microsecond=0)
NONE = None
HISTORIES = [  # newest first, and which of them is wanted
    ([Entry(-5, is_latest=True)], 0),
    ([Entry(5, is_latest=True)], NONE),
    ([Entry(5, is_latest=True), Entry(-5)], 1),
    ([Entry(-5), Entry(5, True, True)], 0),
    ([Entry(-5), Entry(-3, True, True)], NONE),
    ([Entry(4, is_latest=True), Entry(-5), Entry(-3, True)], NONE),
    ([Entry(0, is_latest=True)], 0),
    ([Entry(0, is_latest=True), Entry(-5)], 1),
    ([Entry(3), Entry(0), Entry(4, True, True)], 1),
    ([Entry(-0.05), Entry(0.05, True, True)], 0),
]


@pytest.mark.parametrize(("history", "wanted"), HISTORIES, ids=range(len(HISTORIES)))
def test_the_version_of_an_instant_is_chosen_as_the_docstring_says(history, wanted):
    chosen = versions._at(history, INSTANT)
    assert chosen is (None if wanted is None else history[wanted])


def test_a_key_is_whole_though_its_markers_are_listed_after_a_page_of_versions():
    keys = [f"{number:04}" for number in range(2500)]
    listed = []
    for page in (keys[:1000], keys[1000:2000], keys[2000:]):
        listed += [Entry(0, object_name=key) for key in page] + [Entry(1, True, object_name=key) for key in page[::7]]
    whole = {history[0].object_name: len(history) for history in versions._histories(listed)}
    marked = set(keys[:1000:7]) | set(keys[1000:2000:7]) | set(keys[2000::7])
    assert whole == {key: 1 + (key in marked) for key in keys}
