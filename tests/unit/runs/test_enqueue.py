"""How tasks show in a table of narrow columns."""

from __future__ import annotations

import pytest

from klinefleet.tasks.runs.enqueue import task_label
from klinefleet.workers.domain.series import Partition, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms

JANUARY = Partition.parse("um/klines/1m/BTCUSDT/2024-01")
MINUTE = 60_000


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "time"),
    [
        (utc_ms(2024), utc_ms(2024, 2), "2024-01-01..02-01"),
        (
            utc_ms(2024, 1, 7) + 288 * MINUTE,
            utc_ms(2024, 1, 13) + 576 * MINUTE,
            "2024-01-07 04:48..01-13 09:36Z",
        ),
        (utc_ms(2024), utc_ms(2024) + 90 * MINUTE, "2024-01-01 00:00..01-01 01:30Z"),
        (utc_ms(2024, 12), utc_ms(2025), "2024-12-01..2025-01-01"),
    ],
)
def test_a_window_shows_its_market_symbol_interval_and_time(
    start_ms: int, end_ms: int, time: str
) -> None:
    assert (
        task_label(Window(JANUARY, Span(start_ms, end_ms), Source.REST)) == f"um BTCUSDT 1m {time}"
    )


def test_a_partition_shows_its_month_and_what_is_no_kline_shows_its_kind() -> None:
    assert task_label(JANUARY) == "um BTCUSDT 1m 2024-01"
    assert (
        task_label(Partition.parse("cm/markPriceKlines/1h/BTCUSD_PERP/2024-01"))
        == "cm BTCUSD_PERP 1h markPriceKlines 2024-01"
    )
    assert (
        task_label(Partition.parse("um/fundingRate/events/BTCUSDT/2024"))
        == "um BTCUSDT fundingRate 2024"
    )
