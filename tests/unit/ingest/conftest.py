"""A run with one block."""

from __future__ import annotations

import pytest

from tests.unit.helpers.compaction import ready
from tests.unit.helpers.crew import Crew
from tests.unit.helpers.klines import JANUARY


@pytest.fixture
def run(one: Crew) -> str:
    """A run whose January is ready to be compacted."""
    return ready(one, JANUARY)
