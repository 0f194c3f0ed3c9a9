"""The prober as an instrument: held against outages whose length the test knows, of a server that it switches."""

import httpx
import pytest

from drills.probe import ContinuousProber, Prober
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


class Turning:
    """A business transaction that fails from one number to another, of those that are asked for."""

    def __init__(self, *outages):
        self.outages, self.asked, self.closed = outages, [], 0

    def transact(self, name, content, *, deadline_ns):
        number = len(self.asked)
        self.asked.append(name)
        if any(first <= number < end for first, end in self.outages):
            raise ApplicationError("upload: 503")

    def close(self):
        self.closed += 1


@pytest.fixture
def continuous(journal):
    """Probe until so many were made; the prober, stopped, and what it asked."""
    made = []

    def run(business, until, door=lambda: True):
        prober = ContinuousProber(business, journal=journal, drill=DRILL, prefix="probe/", interval_ns=MS,
                                  limit_ns=5000 * MS, door=door)  # fmt: skip
        made.append(prober)
        prober.start()
        wait_until(lambda: len(business.asked) >= until, seconds=60, interval=0.001, what=f"{until} probes")
        prober.stop()
        return prober

    yield run
    for each in made:
        each.stop()


def test_of_a_continuous_prober_each_outage_is_written_from_its_first_to_its_end(journal, continuous):
    business = Turning((3, 7), (10, 11))
    continuous(business, until=15)
    last = len(business.asked) - 1
    assert [(each["outcome"], each["failed_before"]) for each in probes(journal)] == [
        ("succeeded", 0),  # the very first
        ("failed", 0), ("failed", 3), ("succeeded", 4),
        ("failed", 0), ("succeeded", 1),
        ("succeeded", 0),  # the very last
    ]  # fmt: skip
    (whole,) = [event for event in read_journal(journal.path) if event["kind"] == "probes"]
    assert (whole["count"], whole["failed"]) == (last + 1, 5)
    assert whole["first_ns"] == probes(journal)[0]["started_ns"]
    assert whole["last_ended_ns"] == probes(journal)[-1]["ended_ns"]
    assert len(set(business.asked)) == last + 1
    assert business.closed == 1


@pytest.mark.parametrize(("failing", "outcomes"), [((2, 99), "sff"), ((0, 99), "ff")], ids=["to its end", "all of it"])
def test_an_outage_that_does_not_end_is_written_with_its_last_failure(journal, continuous, failing, outcomes):
    prober = continuous(Turning(failing), until=6)
    written = probes(journal)
    assert "".join(each["outcome"][0] for each in written) == outcomes
    assert written[-1]["ended_ns"] == prober.last.ended_ns


def test_a_success_counts_since_an_instant_and_so_does_a_failure(target, journal):
    prober = ContinuousProber(Caller(target), journal=journal, drill=DRILL, prefix="probe/", interval_ns=5 * MS,
                              limit_ns=5000 * MS)  # fmt: skip
    now = journal.clock.now
    prober.start()
    try:
        assert prober.await_success(since=0, seconds=60)
        assert not prober.failed_since(0)
        target.off()
        wait_until(lambda: prober.failed_since(0), seconds=60, interval=0.005, what="a failed probe")
        during = now()
        wait_until(lambda: prober.failed_since(during), seconds=60, interval=0.005, what="another failed probe")
        assert not prober.await_success(since=during, seconds=0.1)
        target.on()
        on = now()
        assert prober.await_success(since=on, seconds=60)
        assert prober.last_success.started_ns > on
        assert not prober.failed_since(now())
    finally:
        prober.stop()


def test_a_continuous_prober_that_never_began_has_nothing_to_tell(journal, continuous):
    business = Turning()
    ContinuousProber(business, journal=journal, drill=DRILL, prefix="probe/", interval_ns=MS, limit_ns=MS).stop()
    assert business.closed == 1
    assert list(read_journal(journal.path)) == []
