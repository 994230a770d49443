"""Symbols: which strings can be one."""

from __future__ import annotations

import unicodedata

from klinefleet.workers.domain.errors import RequestError

#: The longest symbol that is believed; the longest seen has 17 characters.
_SYMBOL_CHARACTERS = 60


def checked_symbol(text: str) -> str:
    """Return the symbol in the exchange's capitals; RequestError where it could not be one."""
    symbol = text.strip().upper()
    if not _spells_symbol(symbol):
        raise RequestError(
            f"symbol {text!r} cannot be one: only letters, digits, '_' and '-' occur; nothing was "
            "queued"
        )
    return symbol


def is_symbol(text: str) -> bool:
    """Return whether `text` is a symbol as it stands."""
    return _spells_symbol(text) and text == text.upper()


def _spells_symbol(text: str) -> bool:
    """Whether there are only letters and digits of any script, their marks, '_' and '-': no way out
    of a folder.
    """
    return 0 < len(text) <= _SYMBOL_CHARACTERS and all(
        char in "_-" or unicodedata.category(char)[0] in "LNM" for char in text
    )
