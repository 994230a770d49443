"""A run with one partition."""

from __future__ import annotations

import pytest

from tests.unit.helpers.compaction import ready
from tests.unit.helpers.in_process_fleet import InProcessFleet
from tests.unit.helpers.klines import JANUARY


@pytest.fixture
def run(one: InProcessFleet) -> str:
    """A run whose January is ready to be compacted."""
    return ready(one, JANUARY)
