"""The /sim routes: what a test reads from the exchange, and what it does to it.

Never counted as weight.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from deploy.simulator.checked import checked
from deploy.simulator.exchange import DateShift, Exchange
from deploy.simulator.faults import Fault, Plan
from deploy.simulator.markets import Pool
from deploy.simulator.moments import SECOND_MS
from deploy.simulator.neighbours import Neighbour, described


class Control:
    """Answers the /sim routes on behalf of an exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def add_to(self, app: web.Application) -> None:
        """Register the control paths."""
        app.router.add_get("/sim/books", self.books)
        app.router.add_delete("/sim/books", self.forget_books)
        app.router.add_get("/sim/calls", self.calls)
        app.router.add_delete("/sim/calls", self.forget_calls)
        app.router.add_put("/sim/faults", checked(self.set_faults))
        app.router.add_put("/sim/latency", checked(self.set_latency))
        app.router.add_put("/sim/date", checked(self.set_date))
        app.router.add_put("/sim/info", checked(self.set_info))
        app.router.add_post("/sim/ban", checked(self.ban))
        app.router.add_put("/sim/foreign", checked(self.set_foreign))

    async def books(self, request: web.Request) -> web.Response:
        """Answer with minutes, calls, rows served and faults struck."""
        return web.json_response(self._exchange.report())

    async def forget_books(self, request: web.Request) -> web.Response:
        """Start the books anew; bans end."""
        self._exchange.forget_books()
        return _done()

    async def calls(self, request: web.Request) -> web.Response:
        """Answer with the newest calls for rows in the order they arrived."""
        return web.json_response(self._exchange.calls())

    async def forget_calls(self, request: web.Request) -> web.Response:
        """Empty the log of calls for rows."""
        self._exchange.forget_calls()
        return _done()

    async def set_faults(self, request: web.Request) -> web.Response:
        """Make calls for rows fail at these rates from now on; no rates, no faults."""
        wanted = dict(await request.json())
        rates = {Fault(kind): float(rate) for kind, rate in wanted.pop("rates", {}).items()}
        self._exchange.faults.follow(Plan(rates=rates, **wanted))
        return _done()

    async def set_latency(self, request: web.Request) -> web.Response:
        """Hold every market answer back from now on."""
        wanted = await request.json()
        self._exchange.latency.ms = float(wanted["ms"])
        self._exchange.latency.jitter_ms = float(wanted.get("jitter_ms", 0))
        return _done()

    async def set_date(self, request: web.Request) -> web.Response:
        """Set how far the Date header of answers with rows lies behind; 0 ends it."""
        wanted = await request.json()
        answers = wanted.get("answers")
        self._exchange.date_shift = DateShift(
            int(wanted["behind_ms"]), None if answers is None else int(answers)
        )
        return _done()

    async def set_info(self, request: web.Request) -> web.Response:
        """Answer exchangeInfo with an error's status, or untruly, from now on; null ends it.

        `answers`: only so many answers have that status.
        """
        wanted = await request.json()
        if "status" in wanted:
            status = wanted["status"]
            self._exchange.info_status = None if status is None else int(status)
            answers = wanted.get("answers")
            self._exchange.info_refusals = None if answers is None else int(answers)
        if "untrue" in wanted:
            self._exchange.info_untrue = dict(wanted["untrue"])
        return _done()

    async def ban(self, request: web.Request) -> web.Response:
        """Shut an address out of a pool for some seconds; 0 lets it in again."""
        wanted = await request.json()
        until_ms = self._exchange.clock() + round(float(wanted["seconds"]) * SECOND_MS)
        self._exchange.books.ban(str(wanted["address"]), Pool(wanted["pool"]), until_ms)
        return web.json_response({"until_ms": until_ms})

    async def set_foreign(self, request: web.Request) -> web.Response:
        """Let another program make calls from an address; one without a profile ends it."""
        wanted = await request.json()
        address, pool = str(wanted["address"]), Pool(wanted["pool"])
        neighbour = _neighbour(wanted)
        self._exchange.books.set_foreign(address, pool, neighbour, self._exchange.clock())
        return _done()


def _neighbour(wanted: dict[str, Any]) -> Neighbour:
    """Return whom a body describes: `weight_per_minute` is short for a profile."""
    if unknown := wanted.keys() - {"address", "pool", "profile", "weight_per_minute"}:
        raise ValueError(f"a program on an address has no {', '.join(sorted(unknown))}")
    if "weight_per_minute" not in wanted:
        return described(wanted.get("profile"))
    if "profile" in wanted:
        raise ValueError("a program has a profile or weight_per_minute, not both")
    return described({"even": wanted["weight_per_minute"]})


def _done() -> web.Response:
    return web.json_response({})
