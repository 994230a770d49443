"""A small lake for the tests of the reader."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.unit.helpers.small_lakes import (
    TWO_MONTHS,
    hold_all,
    hours,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def held(store: Path) -> pl.DataFrame:
    """Two months of hourly BTCUSDT candles, held by the lake."""
    return hold_all(store, hours(), TWO_MONTHS)
