"""Downloads the REST pages of a window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tenacity import Retrying, retry_if_exception, stop_after_delay

from klinefleet.tasks.ingest.attempts import (
    WindowCounts,
    give_up_waiting,
    is_wait,
    pause_or_stop,
    rest_may_recover,
)
from klinefleet.workers.binance.calls.answers import asked_ms
from klinefleet.workers.binance.page_check import PageFacts, inspect
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.limits.weight_waiter import MAX_WAIT_S
from klinefleet.workers.services import Services
from klinefleet.workers.support.retry import REST_PAGE


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """One page's checked bytes, and what they hold."""

    page: Page
    body: bytes
    facts: PageFacts
    asked_ms: int
    """When it was asked for, by the exchange's clock, ms UTC."""


def final_until_ms(fetched: list[FetchedPage]) -> int:
    """Return where the final rows end, ms UTC: at the end of the pages, or where one is cut."""
    for one in fetched:
        if one.facts.end_ms < one.page.span.end_ms:
            return one.facts.end_ms
    return fetched[-1].page.span.end_ms


def fetch_page(services: Services, series: Series, counts: WindowCounts, page: Page) -> FetchedPage:
    """Return a page's checked bytes, after as many tries as its errors deserve."""
    waits = Retrying(
        retry=retry_if_exception(is_wait),
        stop=stop_after_delay(MAX_WAIT_S),
        retry_error_callback=give_up_waiting,
    )
    sleep = partial(pause_or_stop, services, f"{series} {page.span}")
    tries = REST_PAGE.retrying(rest_may_recover, sleep=sleep)
    fetched: FetchedPage = tries(waits, _request, services, series, counts, page)
    return _fetch_halves(services, series, counts, page) if fetched.facts.is_full else fetched


def _fetch_halves(
    services: Services, series: Series, counts: WindowCounts, page: Page
) -> FetchedPage:
    """Return a page of events, fetched in halves: it had more rows than one answer takes."""
    middle_ms = (page.span.start_ms + page.span.end_ms) // 2
    halves = Span(page.span.start_ms, middle_ms), Span(middle_ms, page.span.end_ms)
    left, right = (
        fetch_page(services, series, counts, replace(page, span=half)) for half in halves
    )
    facts = PageFacts(left.facts.rows + right.facts.rows, final_until_ms([left, right]))
    # The raw zone keeps a page a line.
    body, asked = left.body + b"\n" + right.body, min(left.asked_ms, right.asked_ms)
    return FetchedPage(page, body, facts, asked)


def _request(services: Services, series: Series, counts: WindowCounts, page: Page) -> FetchedPage:
    """Return one page, requested once within the limit of concurrent requests."""
    counts.add(calls=1, weight=page.weight)
    with services.rest_slots:
        try:
            answer = services.client(series.market).rows(series, page)
            facts = inspect(answer.body, page, series, answer.server_ms)
        except FleetError as error:
            counts.add_failed_try(error, "rest")
            services.rest_slots.record_failure()
            raise
    services.rest_slots.record_success(
        rtt_ms=answer.rtt_ms,
        weight=page.weight,
        left=answer.grant.left,
        minute_left_ms=answer.grant.minute_left_ms,
    )
    again = answer.calls - 1
    counts.add(waited_ms=int(answer.waited_s * 1000), calls=again, weight=again * page.weight)
    return FetchedPage(page, answer.body, facts, asked_ms(answer.server_ms))
