"""A builder of synthetic runs: real files in the contract's formats, with every instant chosen by the test."""

import hashlib
import html.parser
import json
from types import SimpleNamespace

import pytest

from reports.records import GENESIS, Finding, canonical
from reports.run import INTERVAL_NOTE

MS = 1_000_000
S = 1_000 * MS
DRILL = "single-node-pg_dump-total_loss"
CHANNELS = ("api", "row", "object")


def digest(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


class Ledger:
    """Writes at one interval, acknowledged 2 ms later; ``events`` are the ledger's lines, ``observed`` the other's."""

    def __init__(self, interval=50 * MS):
        self.interval, self.events, self.observed = interval, [], []

    def write(self, channel, n, at, *, acknowledged=True, found=1, altered=False, unreadable=False):
        name, content = f"{channel}-{n:06d}", digest((channel, n))
        self.events.append({"event": "attempt", "channel": channel, "n": n, "id": name, "sha256": content, "t": at})
        if acknowledged:
            self.events.append({"event": "acknowledged", "channel": channel, "n": n, "t": at + 2 * MS})
        else:
            self.events.append({"event": "failed", "channel": channel, "n": n, "t": at + 2 * MS, "error": "refused"})
        for _ in range(found):
            self.observed.append({"channel": channel, "id": name, "sha256": digest("other") if altered else content})
        if unreadable:
            self.observed.append({"channel": channel, "id": name, "sha256": ""})

    def phantom(self, channel="row", name="never-attempted"):
        self.observed.append({"channel": channel, "id": name, "sha256": digest(name)})


def whole_ledger(*, strike, lost=0, back=None, begin=2 * S, interval=50 * MS, last=None, deletions=None):
    """Three channels from ``begin`` to the strike, the last ``lost`` writes lost, and again from ``back`` on.

    With ``deletions`` so many in a fourth, five times as far apart.
    """
    ledger = Ledger(interval)
    for n in range(deletions or 0):
        ledger.write("delete", n, begin + n * 5 * interval)
    for channel in CHANNELS:
        count = (strike - begin - 3 * MS) // interval + 1
        for n in range(count):
            ledger.write(channel, n, begin + n * interval, found=0 if n >= count - lost else 1)
        if back is not None:
            ledger.write(channel, count, strike + 10 * MS, acknowledged=False, found=0)
            for more in range(((last or back + 2 * S) - back) // interval):
                ledger.write(channel, count + 1 + more, back + more * interval)
    ledger.events.sort(key=lambda line: line["t"])
    return ledger


class Journal:
    """A journal whose instants the test chooses; writes the same chained lines as ``records.Journal``."""

    def __init__(self):
        self.events, self.drilled = [], DRILL

    def write(self, kind, t, **fields):
        event = {"n": len(self.events), "t": t, "utc": f"2026-11-22T21:04:{t // S % 60:02d}.000000Z", "kind": kind}
        event |= fields
        event["prev"] = self.events[-1]["hash"] if self.events else GENESIS
        event["hash"] = hashlib.sha256(canonical(event)).hexdigest()
        self.events.append(event)

    def drill(self, kind, t, **fields):
        self.write(kind, t, drill=self.drilled, **fields)

    def save(self, directory):
        text = b"".join(canonical(event) + b"\n" for event in self.events)
        (directory / "journal.jsonl").write_bytes(text)


CONTROLS = (
    ("row lost", "deleted one row of documents", ["ROWS-LOST"]),
    ("cell altered", "changed one cell of documents", ["ROWS-ALTERED"]),
    ("object altered", "flipped one byte of an object", ["OBJECT-ALTERED"]),
    ("object lost", "removed one object", ["OBJECT-LOST", "REFERENCE-DANGLING"]),
    ("sequence set back", "set the sequence of audit_events back by ten", ["SEQUENCE-SET-BACK"]),
    ("grant lost", "revoked SELECT on documents from the application's role", ["GRANT-LOST"]),
    ("index lost", "dropped the index documents_by_status", ["INDEX-LOST"]),
    ("constraint lost", "dropped the check on documents.size_bytes", ["CONSTRAINT-LOST"]),
    ("secret wrong", "replaced the key that seals api_keys.secret", ["SECRET-USELESS"]),
    ("dump cut short", "cut the largest file of the dump in half", ["RESTORE-FAILED", "BACKUP-ARTEFACT-ALTERED"]),
    ("artefact missing", "removed one file of the backup set", ["BACKUP-ARTEFACT-MISSING"]),
)
# What a profile says of a run that says nothing.
SAID = {"operator": "", "reviewer": "", "ticket": "", "environment": "", "data": "", "in_scope": [], "out_of_scope": [],
        "waivers": [], "stale_days": 90, "ci": None}  # fmt: skip
COMPONENTS = {"database": {"bytes": 3_097_332, "files": 24}, "objects": {"bytes": 45_113_002, "files": 4_012}}
LOOKED_AT = {
    "backup set": {"files": 61, "bytes": 48_210_334},
    "catalogue": {"catalogue objects": 214},
    "contents": {"tables": 23, "rows": 120_331, "large objects": 1},
    "sequences": {"sequences": 12},
    "objects": {"objects": 4_012, "bytes": 45_113_002},
    "references": {"references": 4_012},
    "configuration": {"variables": 31},
    "secrets": {"sealed values": 40},
}


def build(
    directory,
    *,
    ledger=None,
    lost=2,
    recovery=4_210 * MS,
    rto=None,
    rpo=None,
    check_error="",
    findings=(),
    uncaught=(),
    twin_saw=(),
    checks=True,
    controls=True,
    observed=True,
    probes=True,
    drill_opened=True,
    drill_closed="done",
    run_closed=0,
    not_tested=({"what": "object tags", "reason": "rclone serve s3 keeps none"},),
    text="",
    name=DRILL,
    disaster="total loss",
    plan=None,
    deletions=None,
    shut=None,
    early_success=None,
    planted=None,
    backups=(),
    chosen=None,
    left_out=(),
    context=None,
    more=(),
):
    """Write a whole run into ``directory`` and hand back its journal and ledger.

    ``text`` is put wherever foreign text can come from, for tests of escaping. ``more`` are further drills: what of all
    this is different in each. ``shut`` and ``early_success`` are nanoseconds after the strike; ``planted`` are the
    findings of an expected check; ``backups`` are further sets, by their names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    journal, strike = Journal(), 12 * S
    ends = strike + recovery
    journal.write(
        "run.opened",
        0,
        run_id="20261122T210403Z-4f9a",
        suite={
            "name": "enprivacy-restore-drills",
            "version": "0.1.0",
            "commit": "c0ffee" * 6 + "abcd",
            "source_sha256": digest("sources"),
        },
        command=["pytest", "drills", "-k", "total_loss and pg_dump", text],
        profile={"name": "built-in", "sha256": ""},
        host={"system": "Linux 6.1.0 x86_64", "python": "3.11.9", "processors": 2},
        interval_note=INTERVAL_NOTE,
    )
    if context is not None:
        journal.write("run.context", 0, **{**SAID, **context})
    for remark in left_out:
        journal.write("not_tested", 0, **remark)
    given = dict(locals())
    for own in ({}, *more) if drill_opened else ():
        given_here = SimpleNamespace(**{**given, **own})
        journal.drilled = given_here.name
        _drill(journal, directory, given_here.ledger, strike, strike + given_here.recovery, given_here)
    if run_closed is not None:
        journal.write("run.closed", ends + 9 * S, exit=run_closed)
    journal.save(directory)
    return SimpleNamespace(directory=directory, journal=journal, strike=strike, ends=ends)


def _drill(journal, directory, ledger, strike, ends, given):
    write = journal.drill
    write(
        "drill.opened",
        1 * MS,
        architecture="single-node",
        provider="embedded",
        stand_in=True,
        disaster=given.disaster + given.text,
        methods={"database": "pg_dump", "objects": "rclone", "configuration": "age"},
        tools={"PostgreSQL": "17.10", "pg_dump": "17.10", "rclone": "1.71.2", "age": "1.2"},
        scale={"name": "small", "documents": 2000},
        objectives={
            "rto": {"target_ns": given.rto, "source": "option --rto" if given.rto else "reference table, single-node"},
            "rpo": {"target_ns": given.rpo, "source": "option --rpo" if given.rpo else "reference table, single-node"},
        },
        ledger={"channels": list(CHANNELS), "interval_ns": 50 * MS, **_apart(given)},
        probe={"interval_ns": 50 * MS},
        **({"plan": given.plan} if given.plan else {}),
    )
    spans = {
        "spin up": (10 * MS, 1 * S),
        "seed": (1 * S, 1_900 * MS),
        "load": (1_900 * MS, 3_900 * MS),
        "back up": (3_900 * MS, 9_200 * MS),
        "diverge": (9_200 * MS, strike),
        "strike": (strike, strike + 180 * MS),
        "detect": (strike + 180 * MS, strike + 260 * MS),
        "provision": (strike + 260 * MS, strike + 1_100 * MS),
        "restore configuration": (strike + 1_100 * MS, strike + 1_190 * MS),
        "restore database": (strike + 1_190 * MS, strike + 2_600 * MS),
        "restore objects": (strike + 2_600 * MS, strike + 3_300 * MS),
        "start": (strike + 3_300 * MS, strike + 3_800 * MS),
        "ready": (strike + 3_800 * MS, ends - 210 * MS),
        "first transaction": (ends - 210 * MS, ends),
        "verify": (ends + 100 * MS, ends + 1_300 * MS),
        "controls": (ends + 1_300 * MS, ends + 4 * S),
        "tear down": (ends + 4 * S, ends + 4_300 * MS),
    }
    for phase, (begin, end) in spans.items():
        write("phase.opened", begin, phase=phase)
        write("phase.closed", end, phase=phase, outcome="done", error="")
    going = {} if given.deletions is None else {"channels": [*CHANNELS, *(["delete"] if given.deletions else [])]}
    write("ledger.opened", 1_950 * MS, path=f"{given.name}/ledger.jsonl", **going)
    for number, manifest in enumerate(("manifest", *given.backups)):
        write(
            "backup.made",
            9_200 * MS,
            manifest_sha256=digest(manifest),
            bytes=48_210_334 + number,
            snapshot_ns=11_870 * MS,
            skew_ns=820 * MS,
            components=COMPONENTS,
        )
    if given.chosen:
        write("backup.chosen", strike + 1 * S, manifest_sha256=digest(given.chosen), age_ns=9 * S, fallback=True)
    write("strike", strike + 1 * MS, at_ns=strike)
    proofs = [
        {"what": "processes", "seen": "9 of 9 gone"},
        {"what": "data directory", "seen": "absent"},
        {"what": "bucket", "seen": "connection refused"},
        {"what": "configuration", "seen": "absent" + given.text},
    ]
    write("strike.proven", strike + 170 * MS, proofs=proofs)
    if given.shut is not None:
        write("shut", strike + given.shut, at_ns=strike + given.shut)
    if given.early_success is not None:
        begin = strike + given.early_success
        write("probe", begin + 1, outcome="succeeded", started_ns=begin, ended_ns=begin + 90 * MS, step="", seen="",
              failed_before=0)  # fmt: skip
    for begin, outcome in ((strike + 60 * MS, "failed"), (ends - 380 * MS, "failed"), (ends - 210 * MS, "succeeded")):
        if outcome == "failed" or given.probes:
            end, step = begin + (210 if outcome == "succeeded" else 40) * MS, "read back"
            seen = "redacted document, digest right" if outcome == "succeeded" else "connection refused" + given.text
            write("probe", end, outcome=outcome, started_ns=begin, ended_ns=end, step=step, seen=seen, failed_before=71)
    back = ends + 20 * MS
    ledger = ledger or whole_ledger(strike=strike, lost=given.lost, back=back, deletions=given.deletions)
    (directory / given.name).mkdir(exist_ok=True)
    for name, lines in (("ledger", ledger.events), ("observed", ledger.observed)):
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        (directory / given.name / f"{name}.jsonl").write_bytes(content)
        kind = "ledger.closed" if name == "ledger" else "ledger.observed"
        if name == "ledger" or given.observed:
            sha = hashlib.sha256(content).hexdigest()
            write(kind, ends + 2 * S, path=f"{given.name}/{name}.jsonl", sha256=sha)
    for name, looked_at in LOOKED_AT.items() if given.checks else ():
        write(
            "check",
            ends + 2_100 * MS,
            check=name,
            started_ns=ends + 100 * MS,
            ended_ns=ends + 260 * MS,
            looked_at=looked_at,
            findings=[Finding(**finding).as_record() for finding in given.findings] if name == "contents" else [],
            error=given.check_error if name == "sequences" else "",
            not_tested=list(given.not_tested) if name == "objects" else [],
        )
    if given.planted is not None:
        found = [Finding(**finding).as_record() for finding in given.planted]
        write("check", strike + 1 * S, check="newest backup", started_ns=strike, ended_ns=strike + 1, error="",
              looked_at={"files": 61}, findings=found, not_tested=[], expected=True)  # fmt: skip
    for name, breaks, expects in CONTROLS if given.controls else ():
        caught = name not in given.uncaught
        write("control", ends + 3 * S, control=name, breaks=breaks, expects=expects, saw=expects if caught else [],
              caught=caught, error="", started_ns=ends + 2 * S, ended_ns=ends + 2_150 * MS)  # fmt: skip
    if given.controls:
        write("control", ends + 3 * S, control="healthy twin", breaks="", expects=[], saw=list(given.twin_saw),
              caught=not given.twin_saw, error="", started_ns=ends + 2 * S, ended_ns=ends + 2_150 * MS)  # fmt: skip
    if given.drill_closed:
        error = "" if given.drill_closed == "done" else "the restore broke"
        write("drill.closed", ends + 5 * S, outcome=given.drill_closed, error=error)


def _apart(given):
    """The intervals of the channels, where one of them has another: journals before there were deletions lack them."""
    if given.deletions is None:
        return {}
    return {"intervals_ns": {**dict.fromkeys(CHANNELS, 50 * MS), "delete": 250 * MS}}


@pytest.fixture
def made(tmp_path):
    """A builder of runs under ``tmp_path``."""
    numbers = iter(range(100))
    return lambda **given: build(tmp_path / f"run-{next(numbers)}", **given)


@pytest.fixture
def assessed(made):
    """The evidence of a run that is built as asked."""
    from reports.assessment import assess_run

    return lambda **given: assess_run(made(**given).directory)


class _Tags(html.parser.HTMLParser):
    """Refuses tags that do not nest."""

    void = frozenset({"meta", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.names = [], set()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def tags_of():
    """The tags of a page, every one of which must be closed where it was opened."""

    def parse(text):
        tags = _Tags()
        tags.feed(text)
        assert tags.open == []
        return tags.names

    return parse


@pytest.fixture
def builder():
    """The builders themselves, for tests that write their own ledger or journal."""
    return SimpleNamespace(
        journal=Journal,
        whole_ledger=whole_ledger,
        ledger=Ledger,
        many=many,
        looked_at=LOOKED_AT,
        rechain=rechain,
        build=build,
    )


def many(count=13):
    """What differs in each of many drills but the first."""
    disasters = ("bad_deploy", "bucket_emptied", "configuration_lost", "newest_backup_spoiled")
    return [
        {"name": f"single-node-pg_basebackup-rclone_crypt-{disasters[n % 4]}-{n}", "disaster": disasters[n % 4],
         "recovery": (4_300 + 700 * n) * MS, "lost": n % 5, "rto": 12 * S if n % 3 else None, "deletions": 20,
         "shut": 800 * MS if n % 2 else None, "uncaught": ["index lost"] if n == 7 else (),
         "findings": [{"code": "ROWS-LOST", "seen": "documents: 1,998 of 2,000 rows"}] if n == 4 else ()}
        for n in range(1, count)
    ]  # fmt: skip


def rechain(run):
    """Chain a journal anew after its events were changed, as a forger who knows the format would."""
    events, run.journal.events = run.journal.events, []
    for event in events:
        fields = {key: value for key, value in event.items() if key not in ("n", "t", "utc", "kind", "prev", "hash")}
        run.journal.write(event["kind"], event["t"], **fields)
    run.journal.save(run.directory)
