"""Lines that name things and give a reason for each; of many the first ones."""

from __future__ import annotations

from collections.abc import Mapping

#: Things that are named; the others are counted.
MAX_NAMED = 20


def reason_lines(label: str, reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each name and reason, the first MAX_NAMED of them."""
    lines = [f"{label}{name}: {text}" for name, text in list(reasons.items())[:MAX_NAMED]]
    hidden = len(reasons) - MAX_NAMED
    return [*lines, f"{label}{hidden:,} more"] if hidden > 0 else lines
