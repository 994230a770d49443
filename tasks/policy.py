"""What a run may ask of whom: its mode, what the pool's budget can do, and whether REST knows the symbol."""

from __future__ import annotations

from tasks.progress import Runs
from tasks.request import Request
from workers.binance.markets import pool_of
from workers.errors import FleetError
from workers.model import Series
from workers.sources import Mode, Policy
from workers.toolbox import Toolbox

#: Until an exchange has told its limit, this is reckoned with, weight a minute.
_UNTOLD_LIMIT = 1000


def policy_for(tools: Toolbox, request: Request, series: Series) -> Policy:
    """Return the policy for one series of a request."""
    limit = tools.budget(pool_of(series.market, series.kind)).state().limit or _UNTOLD_LIMIT
    weight_per_s = max(1.0, limit * tools.settings.weight_share) / 60
    return Policy(request.source, weight_per_s, request.is_small, _is_listed(tools, series))


def policy_of(tools: Toolbox, run: str, series: Series) -> Policy:
    """Return the policy for one series of a run; of a run that is forgotten nothing more is asked of REST."""
    request = Runs(tools.redis).request(run)
    return policy_for(tools, request, series) if request else Policy(Mode.ARCHIVE, 1.0)


def _is_listed(tools: Toolbox, series: Series) -> bool:
    """Whether REST knows the symbol; where the exchange does not say, it is asked as if it did."""
    try:
        tools.listings.refresh(series.market)
    except FleetError:
        return True
    return tools.listings.of(series) is not None
