"""The sources a run may use for a series: its mode, the pool's budget, and what REST lists."""

from __future__ import annotations

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode, Policy

#: Weight a minute, assumed until the exchange has published its limit.
_DEFAULT_LIMIT = 1000
#: Seconds to list a series' archive files: two requests at the archive's usual quarter of a second.
_ARCHIVE_LISTING_S = 0.5


def policy_for_request(
    services: Services,
    request: Request,
    series: Series,
    parts: list[Span] | None = None,
    *,
    is_rest_away: bool = False,
) -> Policy:
    """Return the policy for one series of a request, of which `parts` are missing.

    If REST can send the parts in less time than the archive needs to list its files, the archive is
    not used: a lake that is updated daily costs a call or two a series, and no listing.
    `is_rest_away`: REST does not answer, so the archive goes on alone.
    """
    limit = services.budget(series.kind.pool(series.market)).state().limit or _DEFAULT_LIMIT
    weight_per_s = max(1.0, limit * services.settings.weight_share) / 60
    is_brief = False
    if parts:
        calls = sum(page_count(series, part) for part in parts)
        is_brief = calls * request.call_weight() / weight_per_s <= _ARCHIVE_LISTING_S
    has_rest = not is_rest_away and _is_listed(services, series)
    return Policy(request.source, weight_per_s, request.is_small or is_brief, has_rest)


def policy_for_run(services: Services, run: str, series: Series) -> Policy:
    """Return the policy for one series of a run; without REST if Redis has forgotten the run."""
    runs = Runs(services.redis)
    request = runs.request(run)
    if request is None:
        return Policy(Mode.ARCHIVE, 1.0)
    is_rest_away = runs.rest_fault(run) is not None
    return policy_for_request(services, request, series, is_rest_away=is_rest_away)


def _is_listed(services: Services, series: Series) -> bool:
    """Return True if REST has the symbol, or if no list of symbols was loaded.

    A symbol that trades by exchangeInfo counts as listed. For any other, REST's last answer about
    the symbol itself decides, if there is one.
    """
    found = services.symbol_cache.find(series)
    if not found.is_loaded:
        return True
    if found.listing and not found.listing.may_have_ended(now_ms(services.redis)):
        return True
    answered = services.source_dates.is_in_rest(series)
    return found.listing is not None if answered is None else answered
