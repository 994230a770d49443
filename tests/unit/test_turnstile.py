"""What holds of both gates, whatever sets their width."""

from __future__ import annotations

import pytest

from tests.unit.crowd import Crowd
from workers.autoscale import Gate, Slots


@pytest.mark.parametrize("gate", [Slots(4), Gate(4)], ids=["slots", "gate"])
def test_narrowed_it_throws_nobody_out_and_lets_nobody_in_until_there_is_room(gate: Slots | Gate) -> None:
    crowd = Crowd(gate, 6)
    crowd.until(inside=4)
    while gate.width > 2:
        gate.failed()
    assert gate.width == 2
    for gone, inside in ((1, 3), (2, 2), (3, 2), (4, 2)):
        crowd.release()
        crowd.until(served=gone, inside=inside)
    crowd.release(2)
    crowd.until(inside=0, served=6)
    assert crowd.highest == 4


@pytest.mark.parametrize("gate", [Slots(1), Gate(1)], ids=["slots", "gate"])
def test_a_call_that_fails_gives_its_place_back(gate: Slots | Gate) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError), gate:
            raise RuntimeError
    with gate:
        pass
