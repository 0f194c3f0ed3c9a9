"""Finds the conformance checks and the faults that prove them: declared beside each other, found by being there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from checks import conformance as package
from checks.checked import Check
from checks.conformance.subject import Subject
from fixtures.refapp import faults
from reports.records import HarnessError, finding_kinds

ONLY_OBSERVED: Final = (
    "the deployment is only observed, and this disturbs it: pytest checks without a profile disturbs one of its own"
)
Look = Callable[[Subject, Check], None]
Breaking = Callable[[Subject], Iterator[Subject | None]]
Break = Callable[[Subject], contextlib.AbstractContextManager[Subject | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conformance:
    """One check.

    ``guide``: the line of the Operations Guide that it answers; ``supports``: controls of standards that a result of it
    supports; ``finds``: the codes it may find; ``after_restore``: it also looks at what a drill has restored, in at
    most a few hundred milliseconds; ``last``: it looks at what all others have left behind, and comes after them.
    """

    suite: str
    name: str
    title: str
    guide: str
    supports: tuple[str, ...]
    finds: tuple[str, ...]
    after_restore: bool
    last: bool
    look: Look

    @property
    def id(self) -> str:
        """``suite-name``, as in a test's id."""
        return f"{self.suite}-{self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """Something broken on purpose, for as long as ``apply`` is entered; ``check`` must then find one of ``expects``.

    What ``apply`` yields is looked at in the subject's place, where it yields anything: say, with other backup sets.
    """

    name: str
    breaks: str
    check: str
    expects: tuple[str, ...]
    apply: Break


T = TypeVar("T")
_checks: dict[str, Conformance] = {}
_faults: dict[str, Fault] = {}


def conformance(
    *, guide: str, supports: Sequence[str], finds: Sequence[str], owned: bool = False, after_restore: bool = False,
    last: bool = False,
) -> Callable[[Look], Look]:  # fmt: skip
    """Register a check. Its suite is the file's name, its title the first line of its docstring.

    ``owned``: it needs a deployment that may be broken and restarted; of any other it is not tested, and says so.
    """

    def register(look: Look) -> Look:
        suite, title = look.__module__.rsplit(".", 1)[1], (look.__doc__ or "").partition("\n")[0].rstrip(".")

        @functools.wraps(look)
        def guarded(subject: Subject, check: Check) -> None:
            if owned and not subject.owned:
                check.not_tested.append({"what": title, "reason": ONLY_OBSERVED})
            else:
                look(subject, check)

        made = Conformance(
            suite=suite, name=look.__name__, title=title, guide=guide, supports=tuple(supports), finds=tuple(finds),
            after_restore=after_restore, last=last, look=guarded,
        )  # fmt: skip
        _add(_checks, made.id, made, made.finds)
        return guarded

    return register


def fault(check: Look, *, expects: Sequence[str], breaks: str) -> Callable[[Breaking], Break]:
    """Register a fault: a generator function that breaks something, yields, and mends it. See ``Fault``."""

    def register(apply: Breaking) -> Break:
        broken = contextlib.contextmanager(apply)
        _add_fault(check, apply.__name__, broken, expects, breaks)
        return broken

    return register


def switch(check: Look, name: str, *, services: Sequence[str], expects: Sequence[str]) -> None:
    """Register a fault switch of the reference application, thrown in some of its services."""

    @contextlib.contextmanager
    def thrown(subject: Subject) -> Iterator[None]:
        with subject.thrown(services, name):
            yield

    _add_fault(check, name.replace("-", "_"), thrown, expects, faults.KNOWN[name])


def _add_fault(check: Look, name: str, apply: Break, expects: Sequence[str], breaks: str) -> None:
    of = next(each for each in _checks.values() if each.look is check)
    made = Fault(name=f"{of.suite}-{name}", breaks=breaks, check=of.id, expects=tuple(expects), apply=apply)
    if not set(expects) <= set(of.finds):
        raise HarnessError(f"fault {made.name}", seen=f"expects what {of.id} never finds", remedy="correct its codes")
    _add(_faults, made.name, made, made.expects)


def _add(registry: dict[str, T], name: str, made: T, codes: Sequence[str]) -> None:
    if name in registry:
        raise HarnessError(name, seen="registered twice", remedy="give it a name of its own")
    for code in codes:
        if code not in finding_kinds():
            raise HarnessError(name, seen=f"code {code} is not in findings.toml", remedy="add it there")
    registry[name] = made


def _load() -> None:
    for entry in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{entry.name}")


def every_check() -> dict[str, Conformance]:
    """Every conformance check by its id, in the order in which they look."""
    _load()
    return dict(sorted(_checks.items(), key=lambda item: item[1].last))


def every_fault() -> dict[str, Fault]:
    """Every fault by its name."""
    _load()
    return _faults
