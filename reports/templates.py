"""What pages have in common: the template engine with the suite's words, styles, and figures that name their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from reports import wording
from reports.records import format_duration

MOST_ROWS: Final = 200
_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "duration": wording.duration,
    "target": lambda value: "no target" if value is None else format_duration(value),
    "margin": lambda value: "—" if value is None else format_duration(value),
    "count": lambda value: "not counted" if value is None else f"{value:,}",
    "size": lambda value: "not measured" if value is None else wording.size(value),
    "text": lambda value: wording.one_line(value, 200),
}


@functools.cache
def environment() -> jinja2.Environment:
    """The template engine: every text is escaped, a name that is not there is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        bounded=wording.bounded,
        duration=wording.duration,
        instant=wording.instant,
        looked_at=wording.looked_at,
        lost=wording.lost,
        size=wording.size,
        target=wording.target,
    )
    return made


def style(*names: str) -> Markup:
    """Style sheets of this room, one after the other."""
    read = "\n".join(Path(__file__).with_name(name).read_text("utf-8") for name in names)
    return Markup(read)  # noqa: S704 - our own files


def value_at(evidence: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path of an evidence, such as ``drills.0.recovery_time.achieved_ns``.

    Raises:
        LookupError: nothing does.
    """
    at: Any = evidence
    for key in path.split("."):
        at = at[int(key)] if isinstance(at, Sequence) else at[key]
    return at


def figures_of(evidence: Mapping[str, Any]) -> Callable[..., Markup]:
    """A function for templates: one figure of the evidence in words, marked with its path and its value there.

    Its arguments are the path and how to put the value: ``duration`` (the default), ``target``, ``margin``, ``count``,
    ``size`` or ``text``. Whoever reads the page can hold every figure against ``evidence.json``.
    """

    def figure(path: str, words: str = "duration") -> Markup:
        value = value_at(evidence, path)
        said = "" if value is None else wording.one_line(value, 200)
        return Markup('<span data-path="{}" data-words="{}" data-value="{}">{}</span>').format(
            path, words, said, _WORDS[words](value)
        )

    return figure
