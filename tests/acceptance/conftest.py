"""One running fleet for all modules that kill nothing and need no settings of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import AMPLE, Fleet, running_fleet


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with more weight than it needs; whoever takes it leaves no fault behind."""
    with running_fleet(tmp_path_factory.mktemp("shared"), *AMPLE) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """The shared fleet, with a lake that holds nothing yet as the module begins."""
    shared_fleet.empty()
    yield shared_fleet
    shared_fleet.assert_nobody_refused()
