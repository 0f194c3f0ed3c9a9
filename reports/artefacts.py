"""What is written beside the evidence at the end of a run: further renderings of the same figures, then the seal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # public, though not marked so for mypy

from reports import auditor_page, metrics, oscal, population, sealing
from reports.population import PastRun
from reports.sealing import Seal

Renderer = Callable[[Mapping[str, Any], Path, list[PastRun]], str]
# In this order: the auditor's page gives the digests of all that was written before it.
RENDERERS: Final[Mapping[str, Renderer]] = {
    "oscal-assessment-results.json": lambda evidence, directory, _: _indented(oscal.document(evidence, directory)),
    "metrics.prom": lambda evidence, _, past: metrics.exposition(evidence, past),
    "evidence.html": auditor_page.render,
}


def write_all(
    run_directory: Path,
    evidence: Mapping[str, Any],
    runs_directory: Path,
    *,
    signer: CryptoSigner | None = None,
) -> tuple[Seal, list[str]]:
    """Write every artefact that is computed from a run's evidence and from the runs before it, and seal the run.

    A rendering that breaks is left out and told of: it must not leave the run without its seal.

    Args:
        run_directory: the run's, which holds all that is not written here.
        evidence: the content of its ``evidence.json``.
        runs_directory: where it lies, for the runs before it.
        signer: signs the attestation; none is written without.

    Returns:
        The seal, and what went wrong on the way to it.

    Raises:
        HarnessError: the run could not be sealed.
    """
    problems = []
    past: list[PastRun] | None = None
    for name, render in RENDERERS.items():
        try:
            past = population.read(runs_directory) if past is None else past
            sealing.write_whole(run_directory / name, render(evidence, run_directory, past).encode("utf-8"))
        except Exception as problem:  # whatever it is, it is told of, and the run is sealed
            problems.append(f"{name} was not written: {type(problem).__name__}: {problem}")
    return sealing.seal(run_directory, evidence, signer), problems


def _indented(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
