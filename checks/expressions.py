"""Bring expressions that PostgreSQL prints in two ways for one meaning into one form.

PostgreSQL stores parsed trees and prints them anew; printing, parsing and printing again does not always give the
first text back, so a faithful restore differs in its catalogue. Two such cases are common (both seen on 15 to 18):

- ``status IN ('a', 'b')`` on a varchar column is first printed ``= ANY ((ARRAY['a'::character varying, …])::text[])``
  and after a restore ``= ANY (ARRAY[('a'::character varying)::text, …])``;
- ``a BETWEEN 1 AND 2 AND b`` is first printed ``(((a >= 1) AND (a <= 2)) AND b)`` and after a restore
  ``((a >= 1) AND (a <= 2) AND b)``.
"""

from __future__ import annotations

import re
from typing import Final

_LITERAL: Final = r"'(?:[^']|'')*'::[a-z][a-z ]*(?:\(\d+\))?"
_CAST_ARRAY: Final = re.compile(rf"\(ARRAY\[({_LITERAL}(?:, {_LITERAL})*)\]\)::([a-z][a-z ]*)\[\]")
_TOKEN: Final = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\s+|[()]|[^\s()'"]+|.""")

_Node = str | list["_Node"]


def normalise(expression: str) -> str:
    """The expression with casts drawn into arrays, nested AND and OR chains made flat, and white space made single."""
    spread = _CAST_ARRAY.sub(
        lambda match: "ARRAY[" + ", ".join(f"({item})::{match[2]}" for item in re.findall(_LITERAL, match[1])) + "]",
        expression,
    )
    return _print(_flatten(_parse(spread))).strip()


def _parse(text: str) -> list[_Node]:
    stack: list[list[_Node]] = [[]]
    for piece in _TOKEN.findall(text):
        if piece == "(":
            stack.append([])
        elif piece == ")" and len(stack) > 1:
            group = stack.pop()
            stack[-1].append(group)
        else:
            stack[-1].append(" " if piece.isspace() else piece)
    # Only text that is no expression leaves a parenthesis open; keep it as it stood.
    while len(stack) > 1:
        group = stack.pop()
        stack[-1].extend(["(", *group])
    return stack[0]


def _connective(group: list[_Node]) -> str | None:
    words = {node for node in group if isinstance(node, str)}
    if words & {"BETWEEN", "CASE", "SELECT"} or ("AND" in words) == ("OR" in words):
        return None
    return "AND" if "AND" in words else "OR"


def _flatten(group: list[_Node]) -> list[_Node]:
    children = [_flatten(node) if isinstance(node, list) else node for node in group]
    connective = _connective(children)
    if connective is None:
        return children
    flat: list[_Node] = []
    for position, node in enumerate(children):
        alone = all(
            neighbour in (None, connective)
            for neighbour in (_word(children, position, -1), _word(children, position, 1))
        )
        if isinstance(node, list) and alone and _connective(node) == connective:
            flat.extend(node)
        else:
            flat.append(node)
    return flat


def _word(group: list[_Node], position: int, step: int) -> _Node | None:
    """The next node that is not a space, or none at the group's edge."""
    position += step
    while 0 <= position < len(group):
        if group[position] != " ":
            return group[position]
        position += step
    return None


def _print(group: list[_Node]) -> str:
    return "".join(node if isinstance(node, str) else f"({_print(node)})" for node in group)
