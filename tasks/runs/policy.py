"""The sources a run may use for a series: its mode, the pool's budget, and what REST lists."""

from __future__ import annotations

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError
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
    services: Services, request: Request, series: Series, parts: list[Span] | None = None
) -> Policy:
    """Return the policy for one series of a request, of which `parts` are missing.

    If REST can send the parts in less time than the archive needs to list its files, the archive is
    not used: a lake that is updated daily costs a call or two a series, and no listing.
    """
    limit = services.budget(series.kind.pool(series.market)).state().limit or _DEFAULT_LIMIT
    weight_per_s = max(1.0, limit * services.settings.weight_share) / 60
    is_brief = False
    if parts:
        calls = sum(page_count(series, part) for part in parts)
        is_brief = calls * request.call_weight() / weight_per_s <= _ARCHIVE_LISTING_S
    return Policy(
        request.source, weight_per_s, request.is_small or is_brief, _is_listed(services, series)
    )


def policy_for_run(services: Services, run: str, series: Series) -> Policy:
    """Return the policy for one series of a run; without REST if Redis has forgotten the run."""
    request = Runs(services.redis).request(run)
    return policy_for_request(services, request, series) if request else Policy(Mode.ARCHIVE, 1.0)


def _is_listed(services: Services, series: Series) -> bool:
    """Return True if REST lists the symbol, or if the listing is not available."""
    try:
        return services.symbol_cache.listing(series) is not None
    except FleetError:
        return True
