"""Which rows a call asks for: parameters checked, and read as each market reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.simulator import refusals
from deploy.simulator.kinds import Kind, name_parameter
from deploy.simulator.markets import (
    DEFAULT_LIMIT,
    FUNDING_LIMIT,
    MAX_FUNDING_LIMIT,
    NEWEST_FUNDING_LIMIT,
    Market,
    Rules,
)
from deploy.simulator.moments import DAY_MS, SECOND_MS
from deploy.simulator.outages import FIRST_MS

NUMBER = re.compile(r"[0-9]{1,20}")
SYMBOL = re.compile(r"[\w\-.&]{1,50}")

#: Spot takes times in microseconds too; no millisecond time reaches this before the year 5138.
SMALLEST_MICROSECONDS = 100_000_000_000_000
#: Spot moves times that lie further ahead than this back to it.
SPOT_AHEAD_MS = 10 * SECOND_MS


@dataclass(frozen=True, slots=True)
class Window:
    """The newest, or oldest, `limit` candles with `low_ms` <= open time <= `high_ms`."""

    low_ms: int
    high_ms: int
    limit: int
    newest: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A call's parameters, checked one by one; funding has no interval."""

    kind: Kind
    symbol: str
    interval: str
    start_ms: int | None
    end_ms: int | None
    limit: int


def read_question(rules: Rules, query: Mapping[str, str], kind: Kind = Kind.KLINES) -> Question:
    """Return the parameters of a call, or raise the refusal the exchange answers with."""
    is_funding = kind is Kind.FUNDING
    return Question(
        kind=kind,
        symbol=_symbol(rules, query, name_parameter(kind)),
        interval="" if is_funding else _mandatory(query, "interval"),
        start_ms=_number(query, "startTime"),
        end_ms=_number(query, "endTime"),
        limit=_funding_limit(query) if is_funding else _limit(rules, query),
    )


def window(rules: Rules, question: Question, now_ms: int) -> Window:
    """Return the window a call means in this market, or raise the refusal it earns."""
    if question.kind is Kind.FUNDING:
        return _funding_window(question, now_ms)
    if question.interval not in rules.intervals:
        raise refusals.invalid_interval()
    start_ms, end_ms = question.start_ms, question.end_ms
    if rules.is_spot:
        start_ms, end_ms = _spot_time(start_ms, now_ms), _spot_time(end_ms, now_ms)
    elif start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise refusals.start_after_end()
    # Of premium prices the documents tell no longest span.
    if rules.max_span_ms is not None and question.kind is not Kind.PREMIUM:
        start_ms, end_ms = _bounded(start_ms, end_ms, rules.max_span_ms, now_ms)
    return Window(
        low_ms=start_ms or 0,
        high_ms=now_ms if end_ms is None else min(end_ms, now_ms),
        limit=question.limit,
        newest=rules.newest_first or start_ms is None,
    )


def _funding_window(question: Question, now_ms: int) -> Window:
    """Return the window of a funding call: from the start on, or the newest.

    The exchange takes a start of 0 for none.
    """
    start_ms, end_ms = question.start_ms, question.end_ms
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise refusals.start_after_end()
    return Window(
        low_ms=start_ms or 0,
        high_ms=now_ms if end_ms is None else min(end_ms, now_ms),
        limit=question.limit,
        newest=not start_ms,
    )


def _bounded(
    start_ms: int | None, end_ms: int | None, span_ms: int, now_ms: int
) -> tuple[int, int]:
    """Return both ends, at most `span_ms` apart: what was not said follows from what was."""
    if end_ms is None:
        end_ms = now_ms if start_ms is None else min(start_ms + span_ms, now_ms)
    if start_ms is None:
        start_ms = max(0, end_ms - span_ms)
    if end_ms - start_ms > span_ms:
        raise refusals.span_too_long(span_ms // DAY_MS)
    return start_ms, end_ms


def _spot_time(moment_ms: int | None, now_ms: int) -> int | None:
    """Return the time in milliseconds, moved into the years spot answers for."""
    if moment_ms is None:
        return None
    if moment_ms >= SMALLEST_MICROSECONDS:
        moment_ms //= 1_000
    return min(max(moment_ms, FIRST_MS), now_ms + SPOT_AHEAD_MS)


def _mandatory(query: Mapping[str, str], name: str) -> str:
    value = query.get(name)
    if not value:
        raise refusals.missing(name)
    return value


def _symbol(rules: Rules, query: Mapping[str, str], parameter: str) -> str:
    symbol = _mandatory(query, parameter)
    if rules.market is not Market.SPOT:
        symbol = symbol.upper()
    if not SYMBOL.fullmatch(symbol) or symbol != symbol.upper():
        raise refusals.illegal_characters(parameter, refusals.LEGAL_SYMBOL)
    return symbol


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text:
        raise refusals.empty(name)
    if not NUMBER.fullmatch(text):
        raise refusals.illegal_characters(name, refusals.LEGAL_NUMBER)
    return int(text)


def _limit(rules: Rules, query: Mapping[str, str]) -> int:
    limit = _number(query, "limit")
    if limit is None:
        return DEFAULT_LIMIT
    if rules.is_spot:
        limit = min(limit, rules.max_limit)
    if not 1 <= limit <= rules.max_limit:
        raise refusals.invalid_limit()
    return limit


def _funding_limit(query: Mapping[str, str]) -> int:
    """Return the most fundings; twice as many where neither times nor a number were asked for."""
    limit = _number(query, "limit")
    if limit is None:
        return FUNDING_LIMIT if "startTime" in query or "endTime" in query else NEWEST_FUNDING_LIMIT
    if not 1 <= limit <= MAX_FUNDING_LIMIT:
        raise refusals.invalid_limit()
    return limit
