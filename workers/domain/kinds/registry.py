"""All kinds there are, by name."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from klinefleet.workers.domain import kinds
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.klines import KLINES

#: What is meant where no kind is named.
DEFAULT_KIND = KLINES


def _declared() -> list[Kind]:
    modules = (
        import_module(f"{kinds.__name__}.{found.name}")
        for found in pkgutil.iter_modules(kinds.__path__)
    )
    declared = [module.KIND for module in modules if hasattr(module, "KIND")]
    return sorted(declared, key=lambda kind: (kind != DEFAULT_KIND, kind))


#: Every kind that a file of this folder declares, by name: the default first, then by name.
KINDS: dict[str, Kind] = {kind.name: kind for kind in _declared()}


def kind_named(name: str) -> Kind:
    """Return the kind of this name; ValueError where there is none."""
    try:
        return KINDS[name]
    except KeyError:
        raise ValueError(f"{name!r} is not a kind; there are {', '.join(KINDS)}") from None
