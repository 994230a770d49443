"""The REST client: one method a question, one error a status, and no call without weight."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import requests

from klinefleet.workers.binance.calls.answers import (
    date_ms,
    error_of_answer,
    parse_json,
    unreachable,
    whole_number,
)
from klinefleet.workers.binance.calls.clock import CallClock
from klinefleet.workers.binance.calls.second_tries import SecondTries
from klinefleet.workers.binance.calls.session import CALL_FAULTS, call
from klinefleet.workers.binance.exchange_info import ExchangeInfo, parse_listing
from klinefleet.workers.domain.errors import (
    BadAnswer,
    Banned,
    Firewalled,
    FleetError,
    MustWait,
    OverWeight,
    TooManyRequests,
)
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.declaration import FirstRow
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import RULES, Market, Pool, Rules
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.limits.budget import DOUBTED_BAN, Budget, Closing, Grant
from klinefleet.workers.limits.concurrency import RestSlots
from klinefleet.workers.limits.weight_waiter import WeightWaiter
from klinefleet.workers.support import metrics

logger = logging.getLogger(__name__)

#: Seconds between two log lines of a closed pool: dozens of calls are in flight as it closes.
CLOSED_LOG_S = 10.0
#: A page of rows has 0.4 MB; every symbol of a market, some 20 MB.
_MAX_ROWS_BYTES, _MAX_INFO_BYTES = 4 << 20, 128 << 20

#: What every market charges for its clock.
_TIME_WEIGHT = 1
#: Nothing of the exchange is older: it opened in July 2017.
_OLDEST_MS = utc_ms(2017)
#: Days of one call that looks for the first candle: COIN-M refuses more than 200.
_DAYS_PER_CALL = 199


_USED_WEIGHT = "x-mbx-used-weight-1m"


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """One call's body as received, with its time and its grant."""

    body: bytes
    server_ms: int | None
    """The exchange's clock when it answered, ms UTC to the second; None without a Date."""
    rtt_ms: int
    waited_s: float
    grant: Grant
    calls: int = 1
    """How many calls were made for it."""


class RestClient:
    """Calls one market. Each call draws its weight first, and reports its outcome to the budget."""

    def __init__(
        self,
        market: Market,
        base_url: str,
        *,
        session: requests.Session,
        budget: Callable[[Pool], Budget],
        weight_waiter: WeightWaiter,
        slots: RestSlots | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        self._rules: Rules = RULES[market]
        self._base_url = base_url + self._rules.path
        self._market = market
        self._session = session
        self._budget = budget
        self._weight_waiter = weight_waiter
        self._slots = slots or RestSlots(1)
        self._timeout_s = timeout_s
        self._second_tries = SecondTries()
        self._closed_logged_s = -CLOSED_LOG_S

    def rows(self, series: Series, page: Page) -> RestAnswer:
        """Return the rows that open in the page's span, as the exchange's JSON.

        The last candle may still be open. Both ends are always sent; the exchange includes both
        (all markets and kinds), so the end sent is one millisecond before the span's.
        """
        return self._rows(
            series,
            {
                "startTime": page.span.start_ms,
                "endTime": page.span.end_ms - 1,
                "limit": page.limit,
            },
            page.weight,
        )

    def first_open_ms(self, series: Series, known_ms: int | None = None) -> int | None:
        """Return the open time of the series' first row, ms UTC; None where it has none.

        Exact for klines of spot and USD-M: from startTime=0 these return their oldest candle.
        COIN-M returns its newest, funding its newest event, and mark, index and premium prices
        were never measured. For these it is the start (UTC) of the first day with a candle, which
        is never too late. `known_ms`, from which on the series is known to trade, spares them all
        calls but those for the days before it.
        """
        series = _dated_by(series)
        if series.kind.first_row is FirstRow.EXACT and self._rules.longest_ms is None:
            answer = self._rows(series, {"startTime": 0, "limit": 1}, self._rules.weight(1))
            return _first_open_ms(series, answer)
        return self._first_day_ms(series) if known_ms is None else self._before(series, known_ms)

    def newest_open_ms(self, series: Series) -> int | None:
        """Return the open time of the series' newest 1m row, ms UTC; None where it has none.

        It may be open still. Without times every market returns its newest rows. Refused where the
        market has no such symbol (`Refused.is_unknown_symbol`).
        """
        minutes = replace(_dated_by(series), interval=Interval.M1)
        answer = self._rows(minutes, {"limit": 1}, self._rules.weight(1))
        return _first_open_ms(series, answer)

    def _rows(self, series: Series, limits: Mapping[str, int], weight: int) -> RestAnswer:
        kind = series.kind
        params: dict[str, str | int] = {kind.symbol_parameter: series.symbol}
        if kind.has_interval:
            params["interval"] = str(series.interval)
        return self._get(kind.rest_path, params | dict(limits), weight, kind.pool(series.market))

    def _first_day_ms(self, series: Series) -> int | None:
        """Return the start of the first day with a candle, ms UTC.

        Each call asks for as many days as one answer holds, so it does not matter from which end
        the exchange fills its answer.
        """
        start_ms = _OLDEST_MS
        while True:
            end_ms = start_ms + _DAYS_PER_CALL * DAY_MS
            answer = self._days(series, end_ms)
            first_ms = _first_open_ms(series, answer)
            now_ms = time.time_ns() // 1_000_000 if answer.server_ms is None else answer.server_ms
            if first_ms is not None or end_ms > now_ms:
                return first_ms
            start_ms = end_ms

    def _before(self, series: Series, known_ms: int) -> int:
        """Return the start of the first day with a candle, at the latest that of `known_ms`.

        Days are asked for as long as there are candles, so it is one call where there are none.
        """
        day_ms = Interval.D1.floor(known_ms)
        while day_ms > _OLDEST_MS:
            earlier_ms = _first_open_ms(series, self._days(series, day_ms))
            if earlier_ms is None or earlier_ms >= day_ms:
                break
            day_ms = earlier_ms
        return day_ms

    def _days(self, series: Series, end_ms: int) -> RestAnswer:
        """Return as many daily candles before `end_ms` as one answer holds."""
        span = Span(end_ms - _DAYS_PER_CALL * DAY_MS, end_ms)
        page = Page(span, _DAYS_PER_CALL, self._rules.weight(_DAYS_PER_CALL))
        return self.rows(replace(series, interval=Interval.D1), page)

    def time_ms(self) -> int:
        """Return the exchange's clock, ms UTC."""
        answer = parse_json(self._get("/time", {}, _TIME_WEIGHT, self._rules.pool).body, dict)
        try:
            return int(answer["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer(
                f"{self._market} /time has no time ({answer}); it was not used"
            ) from error

    def exchange_info(self) -> ExchangeInfo:
        """Return the market's symbols and its weight limit a minute."""
        weight, pool = self._rules.exchange_info_weight, self._rules.pool
        answer = self._get("/exchangeInfo", {}, weight, pool, _MAX_INFO_BYTES)
        info = parse_json(answer.body, dict)
        a_minute = ("REQUEST_WEIGHT", "MINUTE", 1)
        try:
            limit = next(
                int(rule["limit"])
                for rule in info["rateLimits"]
                if (rule["rateLimitType"], rule["interval"], rule["intervalNum"]) == a_minute
            )
            return ExchangeInfo(limit, tuple(parse_listing(symbol) for symbol in info["symbols"]))
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            logger.debug("%s /exchangeInfo: %r", self._market, error)
            lacks = "a weight limit a minute, or a field of a symbol"
            raise BadAnswer(
                f"{self._market} /exchangeInfo lacks {lacks}; it was not used"
            ) from error

    def _get(
        self,
        path: str,
        params: Mapping[str, str | int],
        weight: int,
        pool: Pool,
        max_bytes: int = _MAX_ROWS_BYTES,
    ) -> RestAnswer:
        """Return a good answer. A call that is answered late is made again if it can be at once."""
        budget = self._budget(pool)
        grant, waited_s = self._weight_waiter.acquire(budget, weight)
        calls = itertools.count(2)

        def ask(clock: CallClock) -> RestAnswer:
            return self._ask(budget, grant, path, params, clock, max_bytes)

        def ask_again(clock: CallClock) -> RestAnswer | None:
            with self._slots.if_free() as is_free:
                if not is_free:
                    return None
                again = budget.take(weight)
                if not isinstance(again, Grant):
                    raise OverWeight("no weight is free; the call was not made again")
                number = next(calls)
                answer = self._ask(budget, again, path, params, clock, max_bytes)
                return replace(answer, calls=number)

        answer = self._second_tries.first_answer(ask, ask_again, lambda: CallClock(self._timeout_s))
        return replace(answer, waited_s=waited_s)

    def _ask(
        self,
        budget: Budget,
        grant: Grant,
        path: str,
        params: Mapping[str, str | int],
        clock: CallClock,
        max_bytes: int,
    ) -> RestAnswer:
        """Return a good answer to a call that was granted; the budget learns from any."""
        try:
            answer = call(
                self._session, self._base_url + path, clock, params=params, max_bytes=max_bytes
            )
        except CALL_FAULTS as fault:
            status = "overtaken" if clock.is_cut else "unreachable"
            metrics.REQUESTS.add(market=self._market, status=status)
            budget.learn(grant, used=None, date_ms=None, served=False)
            subject, timeout_s = f"{self._market} {path}", self._timeout_s
            raise unreachable(subject, self._base_url, fault, timeout_s=timeout_s) from fault
        took_s = clock.took_s
        metrics.REQUESTS.add(market=self._market, status=str(answer.status))
        metrics.REQUEST_SECONDS.observe(took_s, market=self._market)
        rtt_ms = int(took_s * 1000)
        error = error_of_answer(f"{self._market} {path}", answer)
        self._learn(budget, grant, answer.headers, error, rtt_ms)
        if error:
            raise error
        return RestAnswer(answer.body, date_ms(answer.headers), rtt_ms, 0.0, grant)

    def _learn(
        self,
        budget: Budget,
        grant: Grant,
        headers: Mapping[str, str],
        error: FleetError | None,
        rtt_ms: int,
    ) -> None:
        budget.learn(
            grant,
            # The header may be missing or -1 on some routes.
            used=whole_number(headers.get(_USED_WEIGHT, "")),
            date_ms=date_ms(headers),
            served=not isinstance(error, (MustWait, Firewalled)),
            rtt_ms=None if error else rtt_ms,
        )
        if isinstance(error, Banned):
            closing = budget.close_until(at_ms=error.until_ms, after_ms=error.after_ms)
            self._log_closed(logging.ERROR, budget, closing, error)
        elif isinstance(error, TooManyRequests):
            closing = budget.close_until(after_ms=error.after_ms)
            self._log_closed(logging.WARNING, budget, closing, error)

    def _log_closed(self, level: int, budget: Budget, closing: Closing, error: FleetError) -> None:
        """Log that the pool is closed, once for all calls that were in flight as it closed."""
        if time.monotonic() - self._closed_logged_s <= CLOSED_LOG_S:
            return
        self._closed_logged_s = time.monotonic()
        doubt = f"; {DOUBTED_BAN}" if closing.is_doubted else ""
        logger.log(
            level,
            "pool %s at %s closed by the exchange for %.0f s: %s%s",
            budget.pool,
            budget.egress,
            closing.for_ms / 1000,
            error.reason,
            doubt,
        )


def _dated_by(series: Series) -> Series:
    """Return the series that is asked for the first and the newest row of a series."""
    if series.kind.first_row is FirstRow.OF_KLINES:
        return replace(series, kind=KLINES, interval=Interval.M1)
    return series


def _first_open_ms(series: Series, answer: RestAnswer) -> int | None:
    """Return the open time of an answer's first row, ms UTC; None where it has no row."""
    rows = parse_json(answer.body, list)
    try:
        return int(rows[0][0]) if rows else None
    except (TypeError, ValueError, IndexError) as error:
        raise BadAnswer(f"{series}: no row but {answer.body[:80]!r}; nothing was kept") from error
