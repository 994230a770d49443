"""A store in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.open import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def files(folder: Path) -> ObjectStore:
    return open_store(str(folder), sleep=lambda seconds: pytest.fail(f"slept {seconds} s"))
