"""A short text with tables, said once and rendered as Markdown or as one self-contained HTML file.

All of its text is plain and may be foreign: both renderings bound and escape it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Final

from reports import templates, wording

# What Markdown gives a meaning inside a line; backslashes first, for they are what escapes.
_MARKS: Final = re.compile(r"([\\`*_{}\[\]<>|~#&$])|(?<![\w.])(https?|ftp|www|mailto)(?=[:.])", re.IGNORECASE)
_LINE_START: Final = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=])")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading below the title."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items:
    """A list; ``numbered`` where the order matters."""

    lines: Sequence[str]
    numbered: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table; the first cell of each row is what the row is about."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Part = Heading | Paragraph | Items | Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A title and what follows it."""

    title: str
    parts: Sequence[Part]


def as_markdown(document: Document) -> str:
    """The document as GitHub-flavoured Markdown."""
    blocks = [f"# {markdown(document.title)}", *(_block(part) for part in document.parts)]
    return "\n\n".join(blocks) + "\n"


def as_html(document: Document) -> str:
    """The document as one HTML file that asks for nothing outside of itself."""
    template = templates.environment().get_template("document.html.j2")
    return template.render(document=document, shown=_shown, kind=lambda part: type(part).__name__) + "\n"


def markdown(text: object) -> str:
    """Plain text, bounded, on one line, without any of its characters meaning something to Markdown or HTML."""
    escaped = _MARKS.sub(lambda mark: f"\\{mark[1]}" if mark[1] else f"{mark[2]}\N{WORD JOINER}", _shown(text))
    return _LINE_START.sub(lambda at: f"\\{at[3]}" if at[3] else f"{at[1]}\\{at[2]}", escaped)


def _shown(text: object) -> str:
    return wording.one_line(text)


def _block(part: Part) -> str:
    if isinstance(part, Heading):
        return f"{'#' * part.level} {markdown(part.text)}"
    if isinstance(part, Paragraph):
        return markdown(part.text)
    if isinstance(part, Items):
        return "\n".join(
            f"{f'{n}.' if part.numbered else '-'} {markdown(line)}" for n, line in enumerate(part.lines, 1)
        )
    rows = [part.head, ["---"] * len(part.head), *part.rows]
    return "\n".join(
        f"| {' | '.join(cell if number == 1 else markdown(cell) for cell in row)} |" for number, row in enumerate(rows)
    )
