"""``python -m checks``: the table of the conformance checks, of their codes and of the faults that show them found."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from checks.conformance.registry import every_check, every_fault
from reports.records import finding_kinds


def table() -> Iterator[str]:
    """One row for each code of each check: the fault that shows it found."""
    yield "| check | finding | fault that shows it | the guide | supports |"
    yield "|---|---|---|---|---|"
    for check in every_check().values():
        for number, code in enumerate(check.finds):
            shown = [fault for fault in every_fault().values() if code in fault.expects]
            own = [f"{fault.breaks} (`{fault.name}`)" for fault in shown if fault.check == check.id]
            breaks = "; ".join(own) or f"as `{shown[0].name}` does for another check"
            first = number == 0
            yield (
                f"| {f'**{check.title}** `{check.id}`' if first else ''} | `{code}`: {finding_kinds()[code].title}"
                f" | {breaks} | {check.guide if first else ''} | {', '.join(check.supports) if first else ''} |"
            )


def main() -> int:
    """Print the table."""
    print("\n".join(table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
