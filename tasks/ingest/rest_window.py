"""Downloads the REST pages of a window."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_delay,
)

from klinefleet.tasks.ingest.attempts import (
    Tally,
    give_up_waiting,
    is_wait,
    pause_or_stop,
    rest_may_recover,
)
from klinefleet.workers.binance.page_check import PageFacts, inspect
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.limits.weight_waiter import MAX_WAIT_S
from klinefleet.workers.services import Services
from klinefleet.workers.support.retry import REST_PAGE


def final_until(calls: list[Page], got: list[tuple[bytes, PageFacts]]) -> int:
    for page, (_, facts) in zip(calls, got, strict=True):
        if facts.end_ms < page.span.end_ms:
            return facts.end_ms
    return calls[-1].span.end_ms


def fetch_page(
    services: Services, series: Series, page: Page, tally: Tally
) -> tuple[bytes, PageFacts]:
    """Return a page's checked bytes, after as many tries as its errors deserve."""

    waits = Retrying(
        retry=retry_if_exception(is_wait),
        stop=stop_after_delay(MAX_WAIT_S),
        retry_error_callback=give_up_waiting,
    )
    sleep = partial(pause_or_stop, services, f"{series} {page.span}")
    retrying = REST_PAGE.retrying(rest_may_recover, sleep=sleep)
    got: tuple[bytes, PageFacts] = retrying(waits, _call, services, series, page, tally)
    return _halves(services, series, page, tally) if got[1].is_full else got


def _halves(
    services: Services, series: Series, page: Page, tally: Tally
) -> tuple[bytes, PageFacts]:
    """Return a page of events asked for in halves: the whole had more than one answer takes."""
    middle_ms = (page.span.start_ms + page.span.end_ms) // 2
    cut = Span(page.span.start_ms, middle_ms), Span(middle_ms, page.span.end_ms)
    (left, in_left), (right, in_right) = (
        fetch_page(services, series, replace(page, span=span), tally) for span in cut
    )
    end_ms = in_right.end_ms if in_left.end_ms == middle_ms else in_left.end_ms
    # The raw zone keeps a page a line.
    return left + b"\n" + right, PageFacts(in_left.rows + in_right.rows, end_ms)


def _call(services: Services, series: Series, page: Page, tally: Tally) -> tuple[bytes, PageFacts]:
    tally.add(calls=1, weight=page.weight)
    with services.rest_slots:
        try:
            answer = services.client(series.market).rows(series, page)
            facts = inspect(answer.body, page, series, answer.server_ms)
        except FleetError as error:
            tally.failed(error, "rest")
            services.rest_slots.failed()
            raise
    grant = answer.grant
    services.rest_slots.answered(
        rtt_ms=answer.rtt_ms,
        weight=page.weight,
        left=grant.left,
        minute_left_ms=grant.minute_left_ms,
    )
    tally.add(waited_ms=int(answer.waited_s * 1000))
    return answer.body, facts
