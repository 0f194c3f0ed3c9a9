"""``evidence.json``: written, read and held against its schema."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema

from reports.records import HarnessError, UsageProblem, canonical

FILE_NAME: Final = "evidence.json"


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``evidence.json``."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("evidence.schema.json").read_text("utf-8"))
    return loaded


def problems(evidence: object) -> list[str]:
    """What is wrong with an evidence by its schema, each as ``$.path: what``; formats such as date-time count too."""
    validator = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())
    found = sorted(validator.iter_errors(evidence), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def write(evidence: Mapping[str, Any], path: Path) -> None:
    """Write an evidence as indented JSON, whole or not at all.

    Raises:
        HarnessError: it is not what the schema says, holds a float or an integer beyond what readers agree on, or
            cannot be written.
    """
    try:
        canonical(evidence)
        wrong = problems(evidence)
    except (TypeError, ValueError) as problem:
        wrong = [str(problem)]
    if wrong:
        raise HarnessError("the evidence of this run", seen="; ".join(wrong[:3]), remedy="report it as a bug of the"
                           " suite, with the run's journal.jsonl")  # fmt: skip
    half = path.with_suffix(".json.half")
    try:
        half.write_text(json.dumps(evidence, indent=2, ensure_ascii=False) + "\n", "utf-8")
        half.replace(path)
    except OSError as problem:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
        raise HarnessError(
            str(path), seen=problem.strerror or str(problem), remedy="make room: without it the run counts as broken"
        ) from None


def read(path: Path) -> Any:
    """The content of an ``evidence.json``, unchecked.

    Raises:
        UsageProblem: it is absent or not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as problem:
        seen = problem.strerror or str(problem)
    except (ValueError, RecursionError) as problem:
        seen = f"not JSON ({problem})"
    raise UsageProblem(str(path), seen=seen, remedy="name the directory of a finished run")
