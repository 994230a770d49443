"""When the spot exchange stood still, and when futures traded nothing.

A client must survive these irregularities.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.simulator.markets import Market
from deploy.simulator.moments import utc_ms


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, `start_ms` included and `end_ms` not."""

    start_ms: int
    end_ms: int


def _span(start: str, end: str) -> Span:
    return Span(utc_ms(start), utc_ms(end))


#: Stop and restart, UTC. Where the stop was not on the minute its millisecond is known from the
#: close time of the last candle: the exchange cut it short.
SPOT_OUTAGES = (
    _span("2017-09-06 16:00:00.001", "2017-09-06 23:00"),
    _span("2017-12-04 06:00:20.799", "2017-12-04 06:49"),
    _span("2017-12-18 10:00:42.446", "2017-12-18 10:14"),
    _span("2017-12-18 12:29:13.420", "2017-12-18 13:34"),
    _span("2018-01-04 03:00:14.839", "2018-01-04 05:06"),
    _span("2018-02-08 00:28:14.789", "2018-02-09 10:00:14.789"),
    _span("2018-02-10 06:00", "2018-02-10 06:15"),
    _span("2018-02-11 04:00", "2018-02-11 04:35"),
    _span("2018-06-26 02:00", "2018-06-26 12:00"),
    _span("2018-06-27 13:00", "2018-06-27 14:45"),
    _span("2018-07-04 00:22:25.552", "2018-07-04 08:00"),
    _span("2018-10-19 06:00", "2018-10-19 09:30"),
    _span("2018-11-14 02:00", "2018-11-14 09:00"),
    _span("2019-03-12 02:00", "2019-03-12 08:00"),
    _span("2019-05-15 03:00", "2019-05-15 13:00"),
    _span("2019-06-07 21:13:13.525", "2019-06-07 22:15"),
    _span("2019-08-15 02:00", "2019-08-15 10:00"),
    _span("2019-11-13 02:00", "2019-11-13 04:20"),
    _span("2019-11-13 05:30", "2019-11-13 05:33"),
    _span("2019-11-25 02:00", "2019-11-25 04:00"),
    _span("2020-02-09 02:00", "2020-02-09 03:00"),
    _span("2020-02-19 11:35:32.287", "2020-02-19 17:30"),
    _span("2020-03-04 09:21:46.695", "2020-03-04 11:30"),
    _span("2020-04-25 02:00", "2020-04-25 04:30"),
    _span("2020-06-28 02:00", "2020-06-28 05:30"),
    _span("2020-11-30 06:00", "2020-11-30 07:00"),
    _span("2020-12-21 13:47:20.522", "2020-12-21 18:00"),
    _span("2020-12-25 02:00", "2020-12-25 03:00"),
    _span("2021-02-11 03:40:54.774", "2021-02-11 05:00"),
    _span("2021-03-06 02:00", "2021-03-06 03:30"),
    _span("2021-04-20 02:00", "2021-04-20 04:30"),
    _span("2021-04-25 04:00", "2021-04-25 08:45"),
    _span("2021-08-13 01:59:59.001", "2021-08-13 06:30"),
    _span("2021-09-29 07:00", "2021-09-29 09:00"),
    _span("2023-03-24 12:40", "2023-03-24 14:00"),
)

#: After this restart candles opened off the minute, in step with the millisecond the exchange had
#: stopped at.
OFF_GRID = _span("2018-02-09 10:00:14.789", "2018-02-10 06:00")
OFF_GRID_ANCHOR_MS = utc_ms("2018-02-09 09:28:14.789")

#: Futures kept making candles while nothing traded: flat, with no volume.
FUTURES_FLAT = _span("2021-03-02 01:15", "2021-03-02 01:46")

#: Nothing is asked for outside these years, so the time line may end there.
FIRST_MS = utc_ms("2017-01-01 00:00")
LAST_MS = utc_ms("2100-01-01 00:00")


def trading_spans(market: Market) -> tuple[Span, ...]:
    """Return the stretches in which the market traded, oldest first."""
    outages = SPOT_OUTAGES if market is Market.SPOT else ()
    starts = [FIRST_MS, *(outage.end_ms for outage in outages)]
    ends = [*(outage.start_ms for outage in outages), LAST_MS]
    return tuple(Span(start, end) for start, end in zip(starts, ends, strict=True))


def flat_span(market: Market) -> Span | None:
    """Return the stretch in which the market made candles without a trade, if it had one."""
    return None if market is Market.SPOT else FUTURES_FLAT


def next_trading(market: Market, moment_ms: int) -> int:
    """Return the first moment from `moment_ms` on at which the market trades."""
    return next(
        max(span.start_ms, moment_ms) for span in trading_spans(market) if span.end_ms > moment_ms
    )
