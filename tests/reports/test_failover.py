"""Failover drills: from what was seen, read and written while a cluster broke and healed, to figures and verdicts."""

import dataclasses
import hashlib
import json

import pytest

from reports import closing, evidence, page
from reports.__main__ import main
from reports.assessment import assess_run, cluster_facts
from reports.failover import findings_if
from reports.records import Finding

MS = 1_000_000
S = 1_000 * MS
STRIKE, PROMOTED, MENDED, BACK, END = 12 * S, 15 * S, 20 * S, 21 * S, 24 * S
DRILL = "high-availability-sync-primary_killed"
NODES = [{"name": f"pg{n}", "address": f"127.0.0.1:543{n}"} for n in (1, 2, 3)]
NOT_STOCK = {"stock": False, "label": "NOT STOCK: ttl 5 s, loop_wait 1 s, retry_timeout 2 s", "ttl_ns": 5 * S,
             "loop_wait_ns": S, "retry_timeout_ns": 2 * S}  # fmt: skip


class Cluster:
    """What happened to three nodes and their clients: by default the first is killed and the second takes its place."""

    def __init__(self):
        self.witness, self.reads, self.ledger, self.observed = [], [], [], []
        self.lost = set()

    def see(self, node, state, begin, end, timeline=None, every=100 * MS):
        for n, at in enumerate(range(begin, end, every)):
            self.witness.append({"node": node, "t0": at, "t": at + 4 * MS, "state": state, "timeline": timeline,
                                 "lsn": None, **({"n": n} if state == "accepts" else {})})  # fmt: skip

    def read(self, channel, begin, end, failed=False):
        for n, at in enumerate(range(begin, end, 50 * MS)):
            ended = {"outcome": "failed", "error": "refused"} if failed else {"outcome": "answered"}
            self.reads.append({"channel": channel, "n": n, "t0": at, "t": at + 3 * MS} | ended)

    def write(self, channel, begin, end, *, by="", acknowledged=True, found=True):
        for at in range(begin, end, 100 * MS):
            n = sum(line["event"] == "attempt" and line["channel"] == channel for line in self.ledger)
            name, sha = f"{channel}-{n}", hashlib.sha256(f"{channel}{n}".encode()).hexdigest()
            self.ledger.append({"event": "attempt", "channel": channel, "n": n, "id": name, "sha256": sha, "t": at})
            ended = {"event": "acknowledged"} | ({"by": by} if by else {})
            ended = ended if acknowledged else {"event": "failed", "error": "away"}
            self.ledger.append({"channel": channel, "n": n, "t": at + 2 * MS} | ended)
            if found:
                self.observed.append({"channel": channel, "id": name, "sha256": sha})

    def killed(self):
        self.see("pg1", "accepts", 8 * S, STRIKE, 1)
        self.see("pg1", "away", STRIKE, MENDED)
        self.see("pg1", "standby", MENDED, END, 2)
        self.see("pg2", "standby", 8 * S, PROMOTED, 1)
        self.see("pg2", "accepts", PROMOTED, END, 2)
        self.see("pg3", "standby", 8 * S, END, 1)
        return self

    def clients(self, away=STRIKE, back=PROMOTED, row_by=("127.0.0.1:5431", "127.0.0.1:5432")):
        for channel in ("api", "row"):
            before, after = row_by if channel == "row" else ("", "")
            self.write(channel, 8 * S, away, by=before)
            self.write(channel, away, back, acknowledged=False, found=False)
            self.write(channel, back, END, by=after)
        for channel in ("api", "standby"):
            self.read(channel, 8 * S, away if channel == "api" else END)
        self.read("api", away, back, failed=True)
        self.read("api", back, END)
        return self


@pytest.fixture
def drilled(tmp_path, builder):
    """Write a run of one failover drill, and hand back its directory."""
    numbers = iter(range(100))

    def build(cluster, *, expects=(), planned=False, findings=(), probed=((14, 15, "failed"), (15, 24, "succeeded")),
              events=(), control=True, timing=NOT_STOCK, redundant=True, left_out=()):  # fmt: skip
        directory = tmp_path / f"run-{next(numbers)}"
        (directory / DRILL).mkdir(parents=True)
        journal = builder.journal()
        journal.drilled, write = DRILL, journal.drill
        journal.write("run.opened", 0, run_id="20261122T210403Z-4f9a", command=["pytest", "drills"],
                      suite={"name": "x", "version": "0", "commit": "", "source_sha256": ""},
                      profile={"name": "built-in", "sha256": ""}, interval_note="",
                      host={"system": "Linux", "python": "3.11", "processors": 2})  # fmt: skip
        write("drill.opened", 1, level="failover", architecture="high-availability", provider="high-availability",
              stand_in=True, disaster="primary killed", methods={"database": "synchronous replication"},
              tools={"Patroni": "4"}, scale={}, recovery_basis="the first transaction after the last that failed",
              objectives={each: {"target_ns": 60 * S, "source": "reference table"} for each in ("rto", "rpo")},
              ledger={"channels": ["api", "row"], "interval_ns": 100 * MS}, probe={"interval_ns": 100 * MS},
              cluster={"timing": timing, "nodes": NODES, "variant": "asynchronous" if expects else "",
                       "settings": {"synchronous_mode": True, "synchronous_mode_strict": False,
                                    "failsafe_mode": False, "maximum_lag_on_failover": 1 << 20},
                       "planned": planned, "expects": list(expects),
                       "floor": {"low_ns": 2 * S, "high_ns": 5 * S, "why": "ttl, and a loop_wait"}})  # fmt: skip
        write("ledger.opened", 8 * S, path=f"{DRILL}/ledger.jsonl", channels=["api", "row"])
        write("cluster.lag", STRIKE - S, at_ns=STRIKE - S, leader="pg1", standbys=[
            {"node": f"pg{n}", "state": "streaming", "sync_state": sync, "flush_lag_bytes": 0, "replay_lag_bytes": None}
            for n, sync in ((2, "sync"), (3, "async"))])  # fmt: skip
        for phase, begin, end in (("load", 8 * S, STRIKE), ("strike", STRIKE, STRIKE + 50 * MS),
                                  ("hold", STRIKE + 50 * MS, MENDED), ("mend", MENDED, MENDED + 200 * MS),
                                  ("redundant", MENDED + 200 * MS, BACK), ("verify", END, END + S)):  # fmt: skip
            write("phase.opened", begin, phase=phase)
            write("phase.closed", end, phase=phase, outcome="done", error="")
        write("strike", STRIKE, at_ns=STRIKE)
        write("strike.proven", STRIKE + 40 * MS, proofs=[{"what": "postmaster of pg1", "seen": "gone"}])
        for begin, end, outcome in probed:
            write("probe", end * S, outcome=outcome, started_ns=begin * S, ended_ns=begin * S + 300 * MS, step="upload",
                  seen="503", failed_before=0)  # fmt: skip
        write("probes", END, count=120, failed=9, first_ns=8 * S, last_ended_ns=END)
        for kind, fields in events:
            write(kind, MENDED, **fields)
        write("mended", MENDED, at_ns=MENDED, what="pg1 started")
        if redundant:
            write("redundant", BACK, at_ns=BACK, members=[
                {"node": "pg1", "how": "rewound", "at_ns": BACK}, {"node": "pg2", "how": "stayed", "at_ns": MENDED},
                {"node": "pg3", "how": "followed", "at_ns": PROMOTED + S}])  # fmt: skip
        files = {"ledger.closed": ("ledger", sorted(cluster.ledger, key=lambda line: line["t"])),
                 "ledger.observed": ("observed", cluster.observed), "witness.closed": ("witness", cluster.witness),
                 "reads.closed": ("reads", cluster.reads)}  # fmt: skip
        for kind, (name, lines) in files.items():
            content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            (directory / DRILL / f"{name}.jsonl").write_bytes(content)
            if name not in left_out:
                write(kind, END, path=f"{DRILL}/{name}.jsonl", sha256=hashlib.sha256(content).hexdigest())
        write("check", END + S, check="contents of the standbys", started_ns=END, ended_ns=END + S,
              looked_at={"tables": 23}, findings=[Finding(**each).as_record() for each in findings], error="",
              not_tested=[])  # fmt: skip
        if control:
            write("control", END + S, control="acknowledged write taken away", breaks="a row taken away",
                  expects=["ACKNOWLEDGED-WRITES-LOST"], saw=["ACKNOWLEDGED-WRITES-LOST"], caught=True, error="",
                  started_ns=END, ended_ns=END + S)  # fmt: skip
        write("drill.closed", END + 2 * S, outcome="done", error="")
        journal.write("run.closed", END + 3 * S, exit=0)
        journal.save(directory)
        return directory

    return build


@pytest.fixture
def assessed(drilled):
    """The evidence of such a run's one drill, held against its schema."""

    def assess(cluster, **given):
        run = assess_run(drilled(cluster, **given))
        assert evidence.problems(run) == []
        return run["drills"][0]

    return assess


def codes(drill, severity="failure"):
    return sorted(each["code"] for each in drill["findings"] if each["severity"] == severity)


def outages(drill):
    return {(row["kind"], row["channel"]): row for row in drill["failover"]["outages"]}


def test_a_cluster_that_heals_without_loss_passes_and_is_measured(assessed):
    drill = assessed(Cluster().killed().clients())
    assert (drill["verdict"], codes(drill), drill["reasons"]) == ("passed", [], [])
    took = drill["recovery_time"]
    assert (took["achieved_ns"], took["lower_ns"], took["failed_probes"]) == (3_300 * MS, 2_000 * MS, 9)
    assert (drill["recovery_point"]["achieved_ns"], drill["failover"]["counts"]["lost"]) == (0, 0)
    assert drill["failover"]["redundant"]["after_mended_ns"] == BACK - MENDED
    assert [(row["node"], row["timeline"]) for row in drill["failover"]["leaders"]] == [("pg1", 1), ("pg2", 2)]


def test_an_outage_is_from_the_last_success_to_the_next_with_its_failures(assessed):
    felt = outages(assessed(Cluster().killed().clients()))
    write, read = felt["write", "api"], felt["read", "api"]
    assert (write["gaps"], write["longest_ns"], write["failed"]) == (1, 3_100 * MS, 30)
    assert (read["longest_ns"], read["failed"], read["resolution_ns"]) == (3_050 * MS, 60, 50 * MS)
    assert (felt["read", "standby"]["gaps"], felt["read", "standby"]["longest_ns"]) == (0, 0)


@pytest.mark.parametrize(("silent", "gaps"), [(900 * MS, 0), (1_500 * MS, 1)])
def test_a_silence_without_a_failure_is_an_outage_where_it_is_long(assessed, silent, gaps):
    cluster = Cluster().killed()
    cluster.write("api", 8 * S, STRIKE)
    cluster.write("api", STRIKE + silent, END)
    cluster.write("row", 8 * S, END)
    cluster.read("api", 8 * S, END)
    assert outages(assessed(cluster))["write", "api"]["gaps"] == gaps


def test_one_failed_request_makes_a_short_gap_an_outage_and_one_before_the_strike_does_not(assessed):
    for at, gaps in ((STRIKE - 2 * S, 0), (STRIKE + 2 * S, 1)):
        cluster = Cluster().killed()
        cluster.write("row", 8 * S, END)
        cluster.write("api", 8 * S, at)
        cluster.write("api", at, at + 1, acknowledged=False, found=False)
        cluster.write("api", at + 100 * MS, END)
        cluster.read("api", 8 * S, END)
        assert outages(assessed(cluster))["write", "api"]["gaps"] == gaps


def test_a_channel_that_never_comes_back_is_an_outage_to_the_end_and_one_that_has_no_more_to_do_is_none(assessed):
    cluster = Cluster().killed().clients(back=END)
    cluster.write("delete", 8 * S, STRIKE + S)
    felt = outages(assessed(cluster, probed=((12, 23, "failed"),)))
    assert (felt["write", "row"]["spans"][-1]["ended"], felt["write", "delete"]["gaps"]) == (False, 0)


def test_where_no_transaction_failed_the_recovery_time_is_nothing_give_or_take_the_time_between_two(assessed):
    cluster = Cluster().killed().clients(away=STRIKE, back=STRIKE)
    drill = assessed(cluster, probed=tuple((at, at + 1, "succeeded") for at in (5, 8, 11, 15, 17)))
    took = drill["recovery_time"]
    assert (took["achieved_ns"], took["uncertainty_ns"], took["felt"]["outage_ns"]) == (0, 4 * S, 0)
    assert drill["verdict"] == "passed"


def test_a_deployment_that_does_not_come_back_fails(assessed):
    drill = assessed(Cluster().killed().clients(back=END), probed=((12, 23, "failed"),))
    assert (codes(drill), drill["verdict"]) == (["RECOVERY-UNSEEN"], "failed")


def test_two_nodes_that_take_writes_at_one_time_are_a_split_brain(assessed):
    cluster = Cluster().clients()
    cluster.see("pg1", "accepts", 8 * S, 18 * S, 1)
    cluster.see("pg1", "standby", 18 * S, END, 2)
    cluster.see("pg2", "standby", 8 * S, PROMOTED, 1)
    cluster.see("pg2", "accepts", PROMOTED, END, 2)
    cluster.see("pg3", "standby", 8 * S, END, 1)
    drill = assessed(cluster)
    (split,) = drill["failover"]["splits"]
    assert (codes(drill), split["nodes"], split["timelines"]) == (["SPLIT-BRAIN"], ["pg1", "pg2"], [1, 2])
    assert (split["from_ns"], 28 <= split["writes"] <= 30) == (PROMOTED, True)


def test_a_leader_that_gives_way_and_is_promoted_again_is_none(assessed):
    cluster = Cluster().clients()
    cluster.see("pg1", "accepts", 8 * S, STRIKE, 1)
    cluster.see("pg1", "standby", STRIKE, 18 * S, 2)
    cluster.see("pg1", "accepts", 18 * S, END, 3)
    cluster.see("pg2", "standby", 8 * S, PROMOTED, 1)
    cluster.see("pg2", "accepts", PROMOTED, 18 * S, 2)
    cluster.see("pg2", "standby", 18 * S, END, 3)
    cluster.see("pg3", "standby", 8 * S, END, 1)
    drill = assessed(cluster)
    assert (codes(drill), drill["failover"]["counts"]["zombie_acknowledged"]) == ([], 0)
    assert [row["node"] for row in drill["failover"]["leaders"]] == ["pg1", "pg2", "pg1"]


def _frozen(found):
    """The first node hangs and is thawed at 18 s: for a second it goes on acknowledging rows on its old timeline."""
    cluster = Cluster()
    cluster.see("pg1", "accepts", 8 * S, STRIKE, 1)
    cluster.see("pg1", "hangs", STRIKE, 18 * S)
    cluster.see("pg1", "refuses", 18 * S, 19 * S, 1)
    cluster.see("pg1", "standby", 19 * S, END, 2)
    cluster.see("pg2", "standby", 8 * S, PROMOTED, 1)
    cluster.see("pg2", "accepts", PROMOTED, END, 2)
    cluster.see("pg3", "standby", 8 * S, END, 1)
    cluster.write("row", 8 * S, STRIKE, by="127.0.0.1:5431")
    cluster.write("row", STRIKE, 18 * S, acknowledged=False, found=False)
    cluster.write("row", 18 * S, 19 * S, by="127.0.0.1:5431", found=found)
    cluster.write("row", 19 * S, END, by="127.0.0.1:5432")
    cluster.write("api", 8 * S, END)
    cluster.read("api", 8 * S, END)
    return cluster


def test_what_a_zombie_acknowledged_is_counted_and_fails_where_it_is_lost(assessed):
    drill = assessed(_frozen(found=False))
    counts = drill["failover"]["counts"]
    assert (counts["zombie_acknowledged"], counts["zombie_lost"], counts["lost"]) == (10, 10, 10)
    assert codes(drill) == ["ACKNOWLEDGED-WRITES-LOST", "ZOMBIE-ACKNOWLEDGED"]
    assert "first write 100, row-100, acknowledged 6 s after the strike" in drill["findings"][0]["seen"]
    drill = assessed(_frozen(found=True))
    assert (drill["failover"]["counts"]["zombie_acknowledged"], codes(drill)) == (10, [])


def test_a_commit_that_was_never_acknowledged_is_counted_and_no_finding(assessed):
    cluster = Cluster().killed().clients()
    cluster.write("row", END, END + 1, acknowledged=False, found=True)
    drill = assessed(cluster)
    assert (drill["failover"]["counts"]["committed_unacknowledged"], codes(drill)) == (1, [])


def test_what_a_negative_control_of_the_row_must_find_fails_nothing_once_it_is_found(assessed):
    cluster = _frozen(found=False)
    rows = [{"code": "SPLIT-BRAIN", "seen": "told by a check"}]
    drill = assessed(cluster, expects=["ACKNOWLEDGED-WRITES-LOST", "SPLIT-BRAIN"], findings=rows, control=False)
    assert (drill["verdict"], codes(drill), drill["failover"]["caught"]) == ("passed", [], True)
    assert codes(drill, "notice") == ["ACKNOWLEDGED-WRITES-LOST", "SPLIT-BRAIN", "ZOMBIE-ACKNOWLEDGED"]
    assert all(each["seen"].startswith("expected of this negative control") for each in drill["findings"])
    assert drill["controls"]["score"] == "1/1"


def test_a_negative_control_of_the_row_that_finds_nothing_fails_and_is_no_figure_of_the_run(drilled):
    other = [{"code": "STANDBY-DIFFERS", "seen": "documents of pg3"}]
    run = assess_run(drilled(Cluster().killed().clients(), expects=["SPLIT-BRAIN"], findings=other))
    (drill,) = run["drills"]
    assert (codes(drill), drill["failover"]["caught"]) == (["CONTROL-NOT-CAUGHT", "STANDBY-DIFFERS"], False)
    assert (drill["controls"]["score"], run["summary"]["recovery_time"]["measured"]) == ("1/2", 0)


def test_a_fault_that_a_negative_control_does_not_expect_fails_it(assessed):
    other = [{"code": "STANDBY-DIFFERS", "seen": "documents of pg3"}]
    drill = assessed(_frozen(found=False), expects=["ACKNOWLEDGED-WRITES-LOST"], findings=other)
    assert (drill["verdict"], codes(drill)) == ("failed", ["STANDBY-DIFFERS"])


def test_planned_work_that_clients_felt_is_found_and_unplanned_is_not(assessed):
    assert codes(assessed(Cluster().killed().clients(), planned=True)) == ["PLANNED-WORK-FELT"]
    well = Cluster().killed().clients(back=STRIKE)
    assert codes(assessed(well, planned=True, probed=((15, 24, "succeeded"),))) == []


def test_nobody_promoted_says_patronis_reason_and_somebody_promoted_is_silent(assessed):
    refused = [("promotion.refused", {"at_ns": 14 * S, "node": "pg2", "why": "wal position exceeds the maximum lag"})]
    cluster = Cluster().clients(back=MENDED)
    cluster.see("pg1", "accepts", 8 * S, STRIKE, 1)
    cluster.see("pg1", "away", STRIKE, MENDED)
    cluster.see("pg1", "accepts", MENDED, END, 2)
    for node in ("pg2", "pg3"):
        cluster.see(node, "standby", 8 * S, END, 1)
    drill = assessed(cluster, events=refused)
    assert codes(drill) == ["NOBODY-PROMOTED"]
    assert "wal position exceeds" in drill["findings"][0]["seen"]
    assert codes(assessed(Cluster().killed().clients(), events=refused)) == []


def test_a_cluster_that_does_not_become_whole_again_fails(assessed):
    drill = assessed(Cluster().killed().clients(), redundant=False)
    assert (codes(drill), drill["verdict"]) == (["REDUNDANCY-NOT-BACK"], "failed")


@pytest.mark.parametrize(("file", "told"), [("witness", "no witness's record"), ("reads", "no record of reads"),
                                            ("observed", "not accounted for")])  # fmt: skip
def test_what_nobody_watched_is_an_error(assessed, file, told):
    drill = assessed(Cluster().killed().clients(), left_out=[file])
    assert drill["verdict"] == "error"
    assert any(told in reason for reason in drill["reasons"])


def test_a_node_that_nobody_looked_at_is_an_error(assessed):
    cluster = Cluster().killed().clients()
    cluster.witness = [line for line in cluster.witness if line["node"] != "pg3" or line["t"] < STRIKE]
    drill = assessed(cluster)
    assert (drill["verdict"], "nobody looked at node pg3" in drill["reasons"][0]) == ("error", True)


def test_changed_lines_give_the_findings_that_controls_need(drilled):
    directory = drilled(Cluster().killed().clients())
    events = [event for event in _events(directory) if event.get("drill") == DRILL]
    facts = cluster_facts(events, directory)
    assert findings_if(events, facts) == []
    fewer = dataclasses.replace(facts, observed=facts.observed[1:])
    rival = {"node": "pg3", "t0": 18 * S + 50 * MS, "t": 18 * S + 60 * MS, "state": "accepts", "timeline": 1}
    split = dataclasses.replace(facts, witness=[*facts.witness, rival])
    for changed, planned, code in ((facts, True, "PLANNED-WORK-FELT"), (split, False, "SPLIT-BRAIN"),
                                   (fewer, False, "ACKNOWLEDGED-WRITES-LOST")):  # fmt: skip
        assert code in [each.code for each in findings_if(events, changed, planned=planned)]


def _events(directory):
    return [json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["witness", "reads"])
def test_an_altered_line_of_what_was_watched_is_noticed(drilled, capsys, name):
    directory = drilled(Cluster().killed().clients())
    evidence.write(assess_run(directory), directory / "evidence.json")
    assert main(["verify", str(directory)]) == 0
    path = directory / DRILL / f"{name}.jsonl"
    path.write_text(path.read_text().replace('"t0": 13000000000', '"t0": 13000000001', 1))
    assert main(["verify", str(directory)]) == 1
    assert f"{name}.jsonl is not the file" in capsys.readouterr().out


def test_the_figures_are_computed_again_from_what_was_watched(drilled, builder, capsys):
    directory = drilled(Cluster().killed().clients())
    evidence.write(assess_run(directory), directory / "evidence.json")
    kept = (directory / "evidence.json").read_text()
    (directory / "evidence.json").write_text(kept.replace('"zombie_acknowledged": 0', '"zombie_acknowledged": 1'))
    assert main(["verify", str(directory)]) == 1
    assert "counts.zombie_acknowledged: it says 1, computed 0" in capsys.readouterr().out


def test_page_and_table_tell_of_a_timing_that_is_not_stock(drilled):
    directory = drilled(Cluster().killed().clients())
    run = assess_run(directory)
    text, table = page.render(run, directory), "\n".join(line for line, _ in closing.lines(run))
    for words in ("NOT STOCK: ttl 5 s", "timing NOT STOCK", "Who led when", "rewound (+9 s)", "not to be quoted",
                  "timeline 2", "2 s to 5 s", "redundant again, +9 s"):  # fmt: skip
        assert words in text
    assert "NOT STOCK" in table
    timing = NOT_STOCK | {"stock": True, "label": "stock Patroni, ttl 20 s"}
    stock = drilled(Cluster().killed().clients(), timing=timing)
    run = assess_run(stock)
    assert "NOT STOCK" not in page.render(run, stock)
    assert not any("NOT STOCK" in line for line, _ in closing.lines(run))
