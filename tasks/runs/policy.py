"""What a run may ask of whom: its mode, what the pool's budget can do, and whether REST knows the
symbol.
"""

from __future__ import annotations

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import FleetError
from klinefleet.workers.domain.paging import page_count
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode, Policy

#: Until an exchange has told its limit, this is reckoned with, weight a minute.
_UNTOLD_LIMIT = 1000
#: What it takes to be told which files a series has: two lists at the archive's usual quarter of a
#: second.
_LISTS_S = 0.5


def policy_for(
    services: Services, request: Request, series: Series, parts: list[Span] | None = None
) -> Policy:
    """Return the policy for one series of a request, of which these parts are missing.

    Where REST has them in less time than the archive tells what it has, it is not asked: a lake
    that is kept current by the day spends a call or two for each series, and no list.
    """
    limit = services.budget(series.kind.pool(series.market)).state().limit or _UNTOLD_LIMIT
    weight_per_s = max(1.0, limit * services.settings.weight_share) / 60
    is_brief = False
    if parts:
        calls = sum(page_count(series, part) for part in parts)
        is_brief = calls * request.weight_of_call() / weight_per_s <= _LISTS_S
    return Policy(
        request.source, weight_per_s, request.is_small or is_brief, _is_listed(services, series)
    )


def policy_of(services: Services, run: str, series: Series) -> Policy:
    """Return the policy for one series of a run; of a run that is forgotten nothing more is asked
    of REST.
    """
    request = Runs(services.redis).request(run)
    return policy_for(services, request, series) if request else Policy(Mode.ARCHIVE, 1.0)


def _is_listed(services: Services, series: Series) -> bool:
    """Whether REST knows the symbol; where the exchange does not say, it is asked as if it did."""
    try:
        return services.symbol_cache.listing(series) is not None
    except FleetError:
        return True
