"""The HTTP server: every market's routes and the control routes on one port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from deploy.simulator.archive.routes import ArchiveRoutes
from deploy.simulator.control import Control
from deploy.simulator.exchange import Exchange
from deploy.simulator.market_routes import MarketRoutes
from deploy.simulator.markets import RULES

#: How often the calls of other programs are counted where no call of ours has them counted.
FOREIGN_STEP_S = 0.02
#: How long to wait for delayed answers when the server stops, seconds.
SHUTDOWN_S = 0.1
BACKLOG = 1024


def build_app(exchange: Exchange) -> web.Application:
    """Return the application that serves an exchange; each class adds its own routes."""
    app = web.Application()
    for rules in RULES.values():
        MarketRoutes(exchange, rules).add_to(app)
    ArchiveRoutes(exchange.archive).add_to(app)
    Control(exchange).add_to(app)
    app.cleanup_ctx.append(_foreign_programs(exchange))
    return app


@contextlib.asynccontextmanager
async def serving(exchange: Exchange, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an exchange while the context lasts, and yield its base URL."""
    runner = web.AppRunner(
        build_app(exchange), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://{bound_host}:{bound_port}"
    finally:
        await runner.cleanup()


def _foreign_programs(exchange: Exchange) -> Callable[[web.Application], AsyncIterator[None]]:
    async def context(app: web.Application) -> AsyncIterator[None]:
        spending = asyncio.create_task(_spend_foreign(exchange))
        yield
        spending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await spending

    return context


async def _spend_foreign(exchange: Exchange) -> None:
    while True:
        await asyncio.sleep(FOREIGN_STEP_S)
        exchange.books.spend_foreign(exchange.clock())
