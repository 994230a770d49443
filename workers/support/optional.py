"""What comes only with the extra `read`: imported where it is used, since workers neither need nor
have it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from klinefleet.workers.domain.errors import RequestError


def require_extra(module: str, what: str) -> ModuleType:
    """Return the module that `what` needs; RequestError that says how to get it where it is not
    installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(f"{what} needs `pip install 'klinefleet[read]'` ({error})") from error
