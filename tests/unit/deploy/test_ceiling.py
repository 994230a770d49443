from __future__ import annotations

import math

import pytest

from deploy.k8s import ceiling
from deploy.k8s.ceiling import POOLS, Fleet, explain, main
from klinefleet.workers.domain.markets import RULES, Market
from klinefleet.workers.limits import concurrency
from klinefleet.workers.support.settings import Settings
from tests.unit.helpers.manifests import ROOT, documents, lines, of_kind

SPOT, FUTURES = POOLS


def test_the_manifests_ceiling_is_the_one_that_is_reckoned() -> None:
    scaled = of_kind("ScaledObject", documents())["worker"]["spec"]
    slots = int(lines(ROOT / "base/settings.env")["KLINES_SLOTS"])
    assert scaled["maxReplicaCount"] == Fleet().ceiling == Fleet(slots=slots).ceiling == 2


def test_one_worker_spends_the_budget_of_both_pools() -> None:
    assert [Fleet().fed(pool) for pool in POOLS] == [1, 1]
    assert [round(Fleet().calls_in_flight(pool), 1) for pool in POOLS] == [17.5, 7.0]


def test_the_ceiling_reckons_with_what_the_workers_do() -> None:
    assert ceiling.HEADROOM == concurrency.HEADROOM
    assert Fleet().slots == Settings().slots
    assert Fleet().share == Settings().weight_share
    for pool, market in ((SPOT, Market.SPOT), (FUTURES, Market.USD_M)):
        rules = RULES[market]
        assert (pool.name, pool.page_rows) == (rules.pool, rules.page_rows)
        assert pool.page_weight == rules.weight(rules.page_rows)
        # Earlier in a minute more calls may be in flight, so that fewer can spend the rest.
        useful = concurrency.useful_concurrency(
            rtt_ms=Fleet().rtt_ms,
            weight=pool.page_weight,
            left=pool.weight_a_minute / 4,
            minute_left_ms=15_000,
            backlog=math.inf,
            sharers=1,
            max_width=1000,
        )
        reckoned = Fleet().calls_in_flight(pool)
        assert useful == pytest.approx(reckoned, abs=2), "but for rounding and a second to spare"
        earliest = concurrency.useful_concurrency(
            rtt_ms=Fleet().rtt_ms,
            weight=pool.page_weight,
            left=pool.weight_a_minute,
            minute_left_ms=60_000,
            backlog=math.inf,
            sharers=1,
            max_width=1000,
        )
        assert earliest <= Fleet().slots, "one worker brings as many as are in flight at most"


def test_longer_round_trips_and_fewer_slots_need_more_workers() -> None:
    assert Fleet(rtt_ms=2800).fed(SPOT) == 4
    assert Fleet(slots=5).fed(SPOT) == 4
    assert Fleet(slots=5, share=0.25).fed(SPOT) == 1
    assert Fleet(slots=5, rtt_ms=2800).ceiling == 36


def test_a_lane_that_is_short_of_processor_time_needs_more_workers() -> None:
    assert Fleet(page_cpu_ms=50.0).fed(SPOT) == 3
    assert Fleet(page_cpu_ms=50.0).fed(FUTURES) == 1


def test_each_address_has_the_ceiling_to_itself() -> None:
    assert Fleet(egresses=3).ceiling == Fleet().ceiling
    assert "6 workers in all" in explain(Fleet(egresses=3))


def test_how_the_number_comes_about_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--egresses", "1", "--slots", "50", "--rtt-ms", "280"])
    told = capsys.readouterr().out
    assert "6000 weight a minute / 2 a page / 60 = 50.0 calls a second" in told
    assert "maxReplicaCount: 2 " in told


@pytest.mark.parametrize(
    "words", [["--slots", "0"], ["--rtt-ms", "nan"], ["--rtt-ms", "x"], ["--egresses", "1.5"]]
)
def test_what_makes_no_sense_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
