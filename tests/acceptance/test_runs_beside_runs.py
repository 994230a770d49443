"""Two runs of the same partitions: cancelling one takes nothing away from the other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.expected import Wanted
from tests.harness import AMPLE, Fleet
from tests.invariants import assert_complete_means_held, assert_nothing_left
from tests.processes import until
from tests.slow_link import SlowLink

SYMBOLS = tuple(f"SIM{number:03d}USDT" for number in range(1, 21))
#: Both want parts of the same partitions; the longer one goes on where the shorter one is done with
#: one.
SHORTER = Wanted("um", SYMBOLS, "2024-01-02", "2024-01-10", "5m")
LONGER = Wanted("um", SYMBOLS, "2024-01-02", "2024-01-25", "5m")
ROUNDS = 3
SLOW_MS, SOON_MS = 400, 5
#: Calls of the shorter run that have come when it is cancelled, and how long its link takes each
#: way, seconds.
MOST_CALLS, LINK_S = 30, (0.05, 0.25)


def test_cancelling_one_run_at_any_moment_takes_no_work_of_another_away(
    fleet_of: Callable[..., Fleet],
) -> None:
    fleet = fleet_of(*AMPLE, "--symbols", "40", KLINES_SLOTS="8")
    fleet.start_worker()
    for seed in range(ROUNDS):
        fleet.empty()
        draw = Random(seed)
        fleet.exchange.hold_back(SLOW_MS)
        shorter = fleet.detach(*SHORTER.arguments)
        longer = fleet.detach(*LONGER.arguments)
        calls = draw.randrange(MOST_CALLS)
        until("calls arrive", lambda calls=calls: len(fleet.exchange.calls()) >= calls)
        with SlowLink(fleet.folder, fleet.redis.url, draw.uniform(*LINK_S)) as link:
            cancelled = fleet.klines("cancel", shorter, KLINES_REDIS_URL=link.url)
        assert cancelled.returncode == 0, cancelled.stderr
        fleet.exchange.hold_back(SOON_MS)
        summary = fleet.ended(longer)
        about = f"seed {seed}, cancelled after {calls} calls: {summary}"
        assert summary["state"] == "complete", about
        assert_complete_means_held(fleet, LONGER.arguments, summary)
        LONGER.assert_held(fleet)
    with fleet.redis.client() as client:
        assert_nothing_left(client)
