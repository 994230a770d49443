"""Import of packages that only the extra `read` installs; workers run without them."""

from __future__ import annotations

import importlib
from types import ModuleType

from klinefleet.workers.domain.errors import RequestError


def require_extra(module: str, feature: str) -> ModuleType:
    """Return the module that `feature` needs; RequestError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RequestError(
            f"{feature} needs `pip install 'klinefleet[read]'`: no {module}"
        ) from error
