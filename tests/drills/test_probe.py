"""The prober as an instrument: held against outages whose length the test knows, of a server that it switches."""

import threading

import httpx
import pytest

from drills.probe import MOST, ContinuousProber, Prober
from fixtures.application import ApplicationError
from reports.accounting import Outage
from reports.measures import recovery_time
from reports.records import NANOSECONDS, pause, read_journal, wait_until

MS = 1_000_000
DRILL = "a-drill"
UNFELT = Outage(last_before_ns=None, first_after_ns=None, outage_ns=None)


class Caller:
    """One business transaction: a request that the target acknowledges."""

    def __init__(self, target, problem=None):
        self.target, self.problem, self.closed = target, problem, False

    def transact(self, name, content, *, deadline_ns):
        if self.problem is not None:
            raise self.problem
        self.target.send(0, name, content.decode())

    def close(self):
        self.closed = True


@pytest.fixture
def prober(target, journal):
    made = []

    def make(*, interval_ns=20 * MS, problem=None, door=lambda: True):
        made.append(Prober(Caller(target, problem), journal=journal, drill=DRILL, prefix="probe/",
                           interval_ns=interval_ns, limit_ns=5000 * MS, door=door))  # fmt: skip
        return made[0]

    yield make
    for each in made:
        each.stop()


def probes(journal):
    return [event for event in read_journal(journal.path) if event["kind"] == "probe"]


@pytest.mark.parametrize("interval", [20 * MS, 50 * MS], ids=["20ms", "50ms"])
@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5])
def test_the_recovery_time_is_that_of_the_known_outage(target, journal, prober, worst_stall, interval, seconds):
    now = journal.clock.now
    strike = now()
    target.off()
    instrument = prober(interval_ns=interval)
    instrument.start()
    pause(seconds, why="the outage of known length")
    earliest = now() - strike
    target.on()
    latest = now() - strike
    assert instrument.await_success(seconds=60)
    measured = recovery_time(read_journal(journal.path), strike, UNFELT)
    # The true instant lies in the measured interval, always.
    assert measured["lower_ns"] <= latest
    assert measured["upper_ns"] >= earliest
    # The figure is right to 50 ms or 1 %, beside the probe's interval, its own transaction, and the machine's own lag.
    own = sum(probe["ended_ns"] - probe["started_ns"] for probe in (measured["last_failed_probe"],
                                                                    measured["first_successful_probe"]))  # fmt: skip
    explained = interval + own + worst_stall()
    assert measured["achieved_ns"] - latest <= max(50 * MS, latest // 100) + explained


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_first_failed_last_failed_and_first_successful_are_written(target, journal, prober, failures):
    instrument = prober()
    broken = ApplicationError("upload: 503")
    answers = iter([broken] * failures)
    original = instrument._application.transact

    def transact(name, content, *, deadline_ns):
        if problem := next(answers, None):
            raise problem
        original(name, content, deadline_ns=deadline_ns)

    instrument._application.transact = transact
    instrument.start()
    assert instrument.await_success(seconds=60)
    written = probes(journal)
    assert [probe["outcome"] for probe in written] == ["failed"] * min(failures, 2) + ["succeeded"]
    assert [probe["failed_before"] for probe in written] == sorted({0, max(failures - 1, 0), failures})
    assert all(probe["drill"] == DRILL and probe["started_ns"] <= probe["ended_ns"] for probe in written)


@pytest.mark.parametrize(
    ("problem", "step", "seen"),
    [
        (ApplicationError("process: document 7 is failed"), "process", "ApplicationError: document 7 is failed"),
        (httpx.ConnectError("refused"), "request", "ConnectError: refused"),
        (httpx.ReadTimeout("too slow"), "request", "ReadTimeout: too slow"),
    ],
)
def test_a_failed_probe_names_the_step_and_what_was_seen(journal, prober, problem, step, seen):
    instrument = prober(problem=problem)
    instrument.start()
    assert not instrument.await_success(seconds=0.1)
    instrument.stop()
    first = probes(journal)[0]
    assert (first["outcome"], first["step"], first["seen"]) == ("failed", step, seen)


def test_a_prober_stopped_before_any_success_has_written_its_last_failure(target, journal, prober):
    target.off()
    instrument = prober(interval_ns=5 * MS)
    instrument.start()
    pause(0.2, why="several probes fail")
    instrument.stop()
    first, last = probes(journal)
    assert (first["failed_before"], last["outcome"]) == (0, "failed")
    assert last["failed_before"] == instrument.last_failed.failed_before > 0


def test_probes_keep_their_interval(target, journal, prober):
    target.off()
    instrument = prober(interval_ns=50 * MS)
    started = journal.clock.now()
    instrument.start()
    pause(0.5, why="several probes fail")
    instrument.stop()
    elapsed = journal.clock.now() - started
    assert instrument.last_failed.failed_before <= elapsed // (50 * MS)


def test_after_its_success_it_asks_no_more(target, prober):
    instrument = prober(interval_ns=1 * MS)
    instrument.start()
    assert instrument.await_success(seconds=60)
    pause(0.05, why="it would ask again")
    assert list(target.kept) == ["probe/0"]


def test_stopping_closes_the_client_also_when_it_never_began(prober):
    instrument = prober()
    instrument.stop()
    assert instrument._application.closed
    assert instrument.success is None


def test_a_success_is_dated_by_the_runs_clock(target, journal, prober):
    before = journal.clock.now()
    instrument = prober()
    instrument.start()
    assert instrument.await_success(seconds=60)
    assert before <= instrument.success.started_ns <= instrument.success.ended_ns <= journal.clock.now()
    assert instrument.success.ended_ns < 3600 * NANOSECONDS


def test_a_shut_door_is_a_failed_probe_and_no_transaction(journal, prober):
    shut = prober(problem=AssertionError("a transaction was tried"), door=lambda: False)
    shut.start()
    wait_until(lambda: probes(journal), seconds=10, interval=0.01, what="the first probe")
    assert (probes(journal)[0]["step"], probes(journal)[0]["seen"]) == ("connect", "nobody listens")


class Business:
    """A business transaction that fails from one number to another, and of which some wait until they are let go."""

    def __init__(self, *, failing=(0, 0), waiting=(0, 0)):
        self.failing, self.waiting = range(*failing), range(*waiting)
        self.asked, self.opened, self.closed, self.under_way, self.most = [], 0, 0, 0, 0
        self.let_go, self.lock = threading.Event(), threading.Lock()

    def open(self):
        self.opened += 1
        return self

    def transact(self, name, content, *, deadline_ns):
        number = int(name.rpartition("/")[2])
        with self.lock:
            self.asked.append(name)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            if number in self.waiting:
                self.let_go.wait(60)
            if number in self.failing:
                raise ApplicationError("upload: 503")
        finally:
            with self.lock:
                self.under_way -= 1

    def close(self):
        self.closed += 1


@pytest.fixture
def continuous(journal):
    """A continuous prober of a business, stopped at the end."""
    made = []

    def make(business, *, limit_ns=60 * NANOSECONDS):
        made.append((business, ContinuousProber(business.open, journal=journal, drill=DRILL, prefix="probe/",
                                                interval_ns=MS, limit_ns=limit_ns)))  # fmt: skip
        return made[-1][1]

    yield make
    for business, prober in made:
        business.let_go.set()
        prober.stop()


def asked(business, count):
    wait_until(lambda: len(business.asked) >= count, seconds=60, interval=0.001, what=f"{count} probes")


def test_a_continuous_prober_writes_every_probe_and_their_number(journal, continuous):
    business = Business(failing=(3, 7))
    prober = continuous(business)
    prober.start()
    asked(business, 12)
    prober.stop()
    written = probes(journal)
    assert [(each["outcome"], each["failed_before"]) for each in written[2:8]] == [
        ("succeeded", 0), ("failed", 0), ("failed", 1), ("failed", 2), ("failed", 3), ("succeeded", 4),
    ]  # fmt: skip
    (whole,) = [event for event in read_journal(journal.path) if event["kind"] == "probes"]
    assert (whole["count"], whole["failed"]) == (len(written), 4) == (len(business.asked), 4)
    assert (whole["first_ns"], whole["last_ended_ns"]) == (written[0]["started_ns"], written[-1]["ended_ns"])
    assert len(set(business.asked)) == len(written)


def test_while_one_waits_others_are_begun_beside_it_and_no_more_than_twelve(journal, continuous):
    business = Business(waiting=(1, 60))
    prober = continuous(business, limit_ns=60 * MS)
    prober.start()
    asked(business, 1 + MOST)
    pause(0.1, why="a thirteenth would be begun")
    assert (len(business.asked), business.most) == (1 + MOST, MOST)
    business.let_go.set()
    asked(business, 70)
    prober.stop()
    assert business.opened == business.closed == MOST


def test_while_all_goes_well_one_follows_the_other(continuous):
    business = Business()
    prober = continuous(business)
    prober.start()
    asked(business, 10)
    prober.stop()
    assert business.most == 1


def test_a_success_counts_since_an_instant(target, journal):
    prober = ContinuousProber(lambda: Caller(target), journal=journal, drill=DRILL, prefix="probe/", interval_ns=5 * MS,
                              limit_ns=5000 * MS)  # fmt: skip
    now = journal.clock.now
    prober.start()
    try:
        assert prober.await_success(since=0, seconds=60)
        target.off()
        wait_until(lambda: prober.last_failed is not None, seconds=60, interval=0.005, what="a failed probe")
        during = now()
        assert not prober.await_success(since=during, seconds=0.1)
        target.on()
        on = now()
        assert prober.await_success(since=on, seconds=60)
        assert prober.last_success.started_ns > on
    finally:
        prober.stop()


def test_a_continuous_prober_that_never_began_has_nothing_to_tell(journal, continuous):
    continuous(Business()).stop()
    assert list(read_journal(journal.path)) == []
