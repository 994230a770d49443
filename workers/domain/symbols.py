"""Which strings can be symbols."""

from __future__ import annotations

import unicodedata

from klinefleet.workers.domain.errors import RequestError

#: Characters of the longest symbol that is accepted; the longest known has 17.
_MAX_CHARACTERS = 60


def checked_symbol(text: str) -> str:
    """Return the symbol in capitals; RequestError if it cannot be one."""
    symbol = text.strip().upper()
    if not _spells_symbol(symbol):
        raise RequestError(
            f"invalid symbol {text!r}: only letters, digits, '_' and '-' are allowed"
        )
    return symbol


def is_symbol(text: str) -> bool:
    """Return True if `text` can be a symbol as it stands, in capitals."""
    return _spells_symbol(text) and text == text.upper()


def _spells_symbol(text: str) -> bool:
    """Return True for letters and digits of any script, '_' and '-': no path separators."""
    return 0 < len(text) <= _MAX_CHARACTERS and all(
        char in "_-" or unicodedata.category(char)[0] in "LNM" for char in text
    )
