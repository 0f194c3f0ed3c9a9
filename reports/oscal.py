"""A run as OSCAL assessment results 1.2.1: what was observed, and no finding.

A finding would say of an assessment objective that it is satisfied or not. The objectives that come near to what a
drill shows, such as CP-9(1)'s, ask for a test at an interval that the organisation sets, which one run cannot show. So
there are observations only, and which controls they support.

Nothing enters but the run's files: the same run gives the same document, identifiers included.
"""

from __future__ import annotations

import collections
import datetime
import hashlib
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports import controls, wording
from reports.controls import Support
from reports.document import markdown
from reports.records import format_duration
from reports.staleness import stale_days

FILE_NAME: Final = "oscal-assessment-results.json"
OSCAL_VERSION: Final = "1.2.1"
# The namespace of the properties that OSCAL has no name for.
NAMESPACE: Final = "urn:enprivacy-restore-drills:oscal"
_ROOT: Final = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)
_CATALOGUE: Final = "NIST 800-53r5 "
_FACTS: Final = {"journal.jsonl": "What happened, as it happened: events, each with the digest of the one before it.",
                 "evidence.json": "Every figure and verdict of the run, computed from its files of facts."}  # fmt: skip
_OF_A_DRILL: Final = {"ledger.jsonl": "Every write that was attempted, and every one that was acknowledged.",
                      "observed.jsonl": "Every write of the ledger that was found after recovery.",
                      "witness.jsonl": "What a witness saw of every node of the cluster.",
                      "reads.jsonl": "Every read that was tried, and whether it was answered."}  # fmt: skip
_KINDS: Final = {"shadow": "Shadow restore into a sandbox", "failover": "Failover drill"}
_STAND_IN: Final = "The suite's reference application, a stand-in with the documented topology; not the product."
_MOST_REASONS: Final = 10


def document(evidence: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The run as an OSCAL document, to be written as JSON.

    Args:
        evidence: the content of its ``evidence.json``.
        directory: the run's; its files of facts become resources with their digests, as far as they are there.
    """
    return {"assessment-results": _Writer(evidence, directory).results()}


def problems(written: Mapping[str, Any]) -> list[str]:
    """What NIST's schema does not see: identifiers used twice, and references to what is not in the document."""
    defined, wanted = [*_values(written, "uuid")], list(_references(written))
    twice = [each for each, count in collections.Counter(defined).items() if count > 1]
    return [f"uuid {each} is defined more than once" for each in twice] + [
        f"{key} {each} refers to nothing" for key, each in wanted if each not in defined
    ]


class _Writer:
    """Writes one run; every identifier is derived from the run's id and the part's path in the document."""

    def __init__(self, evidence: Mapping[str, Any], directory: Path) -> None:
        self._evidence, self._run = evidence, uuid.uuid5(_ROOT, evidence["run_id"])
        self._opened = datetime.datetime.fromisoformat(evidence["opened_utc"])
        self._ended = evidence["closed_utc"] or evidence["opened_utc"]
        self._supports = controls.supported_by(evidence)
        self._files = {path: text for path, text in _facts(evidence) if (directory / path).is_file()}
        self._digests = {path: _digest(directory / path) for path in self._files}

    def _id(self, path: str) -> str:
        return str(uuid.uuid5(self._run, path))

    def results(self) -> dict[str, Any]:
        """The document below its one root."""
        evidence = self._evidence
        stand_in = any(part["stand_in"] for part in _parts(evidence))
        result = {
            "uuid": self._id("result"),
            "title": f"Run {markdown(evidence['run_id'])}",
            "description": _lines(
                f"Restore drills and conformance checks; verdict: {evidence['verdict']}."
                f" Negative controls caught: {evidence['controls']['score']}.",
                _STAND_IN if stand_in else "",
                *map(markdown, evidence["reasons"][:_MOST_REASONS]),
            ),
            "start": evidence["opened_utc"],
            "end": self._ended,
            "props": _props(
                ("run-id", evidence["run_id"]), ("verdict", evidence["verdict"]), ("aborted", evidence["aborted"]),
                ("stand-in", stand_in), ("negative-controls-planted", evidence["controls"]["planted"]),
                ("negative-controls-caught", evidence["controls"]["caught"]),
            ),
            "local-definitions": {
                "components": self._components(),
                "assessment-assets": {
                    "components": [self._suite()],
                    "assessment-platforms": [{
                        "uuid": self._id("platform"), "title": "The machine that the run was made on",
                        "props": _props(("system", evidence["host"]["system"])),
                        "uses-components": [{"component-uuid": self._id("suite")}],
                    }],
                },
            },
            "reviewed-controls": self._reviewed(),
            "observations": [*self._drills(), *self._conformance()],
        }  # fmt: skip
        if not result["observations"]:
            del result["observations"]  # OSCAL allows no empty list
        return {
            "uuid": self._id("document"),
            "metadata": {
                "title": f"Restore drills, run {markdown(evidence['run_id'])}",
                "last-modified": self._ended,
                "version": evidence["run_id"],
                "oscal-version": OSCAL_VERSION,
            },
            "import-ap": {
                "href": f"#{self._id('plan')}",
                "remarks": "No assessment plan in OSCAL: the command line and the profile say what was to be tested.",
            },
            "results": [result],
            "back-matter": {"resources": [self._plan(), *self._resources()]},
        }

    def _components(self) -> list[dict[str, Any]]:
        """The deployments that were drilled or checked, one for each part; one run has hardly more than a few."""
        described: dict[str, Mapping[str, Any]] = {}
        for part in _parts(self._evidence):
            described.setdefault(self._deployment(part), part)
        if not described:
            described[self._id("deployment none")] = {"architecture": "none", "provider": "none", "stand_in": False}
        return [
            {
                "uuid": identifier,
                "type": "this-system",
                "title": f"Deployment: {markdown(part['architecture'])}, {markdown(part['provider'])}",
                "description": _STAND_IN if part["stand_in"] else "The deployment that the run was made on.",
                "props": _props(("architecture", part["architecture"]), ("provider", part["provider"]),
                                ("stand-in", part["stand_in"])),
                "status": {"state": "operational"},
            }
            for identifier, part in described.items()
        ]  # fmt: skip

    def _deployment(self, part: Mapping[str, Any]) -> str:
        return self._id(f"deployment {part['architecture']} {part['provider']} {part['stand_in']}")

    def _suite(self) -> dict[str, Any]:
        suite = self._evidence["suite"]
        return {
            "uuid": self._id("suite"),
            "type": "software",
            "title": markdown(suite["name"]) or "restore drills",
            "description": "The suite that made the run.",
            "props": _props(("version", suite["version"]), ("commit", suite["commit"]),
                            ("source-sha256", suite["source_sha256"])),
            "status": {"state": "operational"},
        }  # fmt: skip

    def _reviewed(self) -> dict[str, Any]:
        """The controls of NIST SP 800-53 on which a result of the run bears, whatever that result is."""
        ours = [support for support in self._supports if support.control.name.startswith(_CATALOGUE)]
        borne = [support for support in ours if support.results]
        return {
            "description": "Controls of NIST SP 800-53 Revision 5, by their identifiers in NIST's OSCAL catalogue. The"
            " observations support them, or do not; whether a control is met is not said here.",
            "control-selections": [{
                "description": "Controls on which a result of this run bears." if borne else
                "This run has no result for any of them; OSCAL does not allow to list none.",
                "include-controls": [{"control-id": _control_id(support.control.id)} for support in borne or ours],
            }],
        }  # fmt: skip

    def _drills(self) -> Iterator[dict[str, Any]]:
        for number, drill in enumerate(self._evidence["drills"]):
            collected = self._collected(drill)
            yield self._observation(
                f"drill {number}", drill, f"Drill {markdown(drill['drill'])}",
                _lines(f"{_KINDS.get(drill.get('level', ''), 'Restore drill')}; disaster:"
                       f" {markdown(drill['disaster'])}; verdict: {drill['verdict']}.",
                       *(_achieved(row, drill) for row in drill["objectives"]),
                       f"Negative controls caught: {drill['controls']['score']}.",
                       *map(markdown, drill["reasons"][:_MOST_REASONS])),
                collected, _supporting(self._supports, drill["drill"]),
                [("recovery-time-ns", drill["recovery_time"]["achieved_ns"]),
                 ("recovery-time-uncertainty-ns", drill["recovery_time"]["uncertainty_ns"]),
                 ("recovery-point-ns", drill["recovery_point"]["achieved_ns"]),
                 *((f"{row['objective']}-target-ns", row["target_ns"]) for row in drill["objectives"]),
                 ("cluster-timing", (wording.timing_of(drill) or {}).get("label"))],
            )  # fmt: skip
            for at, check in enumerate(drill["checks"]):
                title = f"Check {markdown(check['check'])} of drill {markdown(drill['drill'])}"
                yield self._observation(f"drill {number} check {at}", drill, title, _checked(check), collected, [],
                                        [("findings", check["findings"])], check)  # fmt: skip

    def _conformance(self) -> Iterator[dict[str, Any]]:
        conformance = self._evidence["conformance"]
        for at, check in enumerate(conformance["checks"] if conformance else ()):
            text = _lines(f"{markdown(check['title'])}.", _checked(check))
            yield self._observation(f"conformance {at}", conformance, f"Check {markdown(check['check'])}", text,
                                    self._ended, _supporting(self._supports, check["check"]),
                                    [("findings", check["findings"])], check)  # fmt: skip

    def _observation(
        self, path: str, part: Mapping[str, Any], title: str, description: str, collected: str,
        supports: Sequence[str], figures: Sequence[tuple[str, object]], judged: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """One observation. ``judged`` is the row with the verdict, where that is not ``part`` itself."""
        expires = datetime.datetime.fromisoformat(collected) + datetime.timedelta(days=stale_days(self._evidence))
        own = [path for path in self._files if path.rpartition("/")[0] in ("", part.get("drill"))]
        props = [("verdict", (judged or part)["verdict"]), ("stand-in", part["stand_in"]), *figures]
        observation = {
            "uuid": self._id(path),
            "title": title,
            "description": description,
            "props": [*_props(*props), *_props(*(("supports", name) for name in supports))],
            "methods": ["TEST"],
            "origins": [{"actors": [{"type": "tool", "actor-uuid": self._id("suite")}]}],
            "subjects": [{"subject-uuid": self._deployment(part), "type": "component"}],
            "collected": collected,
            "expires": _stamp(expires),
        }
        if own:
            observation["relevant-evidence"] = [
                {"href": f"#{self._id(f'file {path}')}", "description": self._files[path]} for path in own
            ]
        return observation

    def _collected(self, drill: Mapping[str, Any]) -> str:
        ends = (row["opened_ns"] + (row["duration_ns"] or 0) for row in drill["phases"])
        return _stamp(self._opened + datetime.timedelta(microseconds=max(ends, default=0) // 1000))

    def _plan(self) -> dict[str, Any]:
        command = " ".join(self._evidence["command"])
        return {
            "uuid": self._id("plan"),
            "title": "What was to be tested",
            "description": f"Command: {markdown(command)}. Profile: {markdown(self._evidence['profile']['name'])}.",
            "rlinks": [{"href": "journal.jsonl", "media-type": "application/jsonl"}],
        }

    def _resources(self) -> Iterator[dict[str, Any]]:
        for path, text in self._files.items():
            media = "application/jsonl" if path.endswith(".jsonl") else "application/json"
            yield {
                "uuid": self._id(f"file {path}"),
                "title": markdown(path),
                "description": text,
                "rlinks": [{"href": _relative(path), "media-type": media,
                            "hashes": [{"algorithm": "SHA-256", "value": self._digests[path]}]}],
            }  # fmt: skip


def _facts(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _FACTS.items()
    for drill in evidence["drills"]:
        if Path(drill["drill"]).name == drill["drill"]:  # no way out of the run's directory
            yield from ((f"{drill['drill']}/{name}", text) for name, text in _OF_A_DRILL.items())


def _parts(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*evidence["drills"], *([evidence["conformance"]] if evidence["conformance"] else [])]


def _supporting(supports: Sequence[Support], name: str) -> list[str]:
    """The names of the controls that the result of that name supports."""
    return [support.control.name for support in supports if any(each.name == name for each in support.supporting)]


def _achieved(row: Mapping[str, Any], drill: Mapping[str, Any]) -> str:
    name = {"rto": "Recovery time", "rpo": "Recovery point"}[row["objective"]]
    target = "none is set" if row["target_ns"] is None else format_duration(row["target_ns"])
    least = "at least " if row["lower_bound"] else ""
    stock = wording.stock(drill) if row["objective"] == "rto" else ""
    achieved = f"{least}{wording.duration(row['achieved_ns'])}{stock}"
    return f"{name} achieved: {achieved}; objective: {target}; {row['verdict']}."


def _checked(check: Mapping[str, Any]) -> str:
    left_out = [f"Not tested: {each['what']}: {each['reason']}" for each in check["not_tested"][:_MOST_REASONS]]
    said = [f"It broke: {check['error']}"] if check["error"] else []
    expected = "The disaster planted what it must find. " if check["expected"] else ""
    looked_at = markdown(wording.looked_at(check["looked_at"]))
    seen = f"{expected}Looked at {looked_at}; findings: {check['findings']}; verdict: {check['verdict']}."
    return _lines(seen, *map(markdown, (*said, *left_out)))


def _lines(*lines: str) -> str:
    return "\n\n".join(line for line in lines if line)


def _props(*pairs: tuple[str, object]) -> list[dict[str, str]]:
    """Properties of this project's own namespace; what is not known has none."""
    said = ((name, str(value).lower() if isinstance(value, bool) else wording.one_line(value, 300))
            for name, value in pairs if value is not None)  # fmt: skip
    return [{"name": name, "ns": NAMESPACE, "value": value} for name, value in said if value]


def _control_id(number: str) -> str:
    """``CP-9(1)`` as NIST's catalogue has it: ``cp-9.1``."""
    return number.lower().replace("(", ".").replace(")", "")


def _stamp(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _relative(path: str) -> str:
    """A path as a relative reference; whatever a reference does not allow is encoded."""
    return urllib.parse.quote(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _values(node: object, key: str) -> Iterator[str]:
    """Every value of a key, wherever it stands."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(node, list):
        for each in node:
            yield from _values(each, key)


def _references(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every reference by identifier, with the key that it stands under."""
    for key in ("subject-uuid", "actor-uuid", "component-uuid", "observation-uuid", "related-observation-uuid"):
        yield from ((key, value) for value in _values(node, key))
    yield from (("href", value[1:]) for value in _values(node, "href") if value.startswith("#"))
