"""The routes of one market: ping, time, exchangeInfo, klines and the other kinds of series."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from deploy.simulator import exchange_info, fault_answers, refusals
from deploy.simulator.books import Verdict, seconds_until
from deploy.simulator.exchange import Call, Exchange
from deploy.simulator.fault_answers import JSON
from deploy.simulator.faults import NEEDS_PAGE, UNANSWERED, UNCHARGED, Fault
from deploy.simulator.kinds import Kind, kinds_of, name_parameter
from deploy.simulator.markets import FUNDING_CALLS, Market, Rules, klines_weight
from deploy.simulator.moments import SECOND_MS
from deploy.simulator.refusals import Refusal
from deploy.simulator.source import Page
from deploy.simulator.windows import read_question, window

#: What ping, time and fundings of COIN-M cost.
LIGHT_WEIGHT = 1
WEIGHT_HEADER = "x-mbx-used-weight-1m"


class Admission(NamedTuple):
    """What was decided about a call when it arrived."""

    verdict: Verdict
    fault: Fault | None


class MarketRoutes:
    """Answers one market's calls on behalf of an exchange."""

    def __init__(self, exchange: Exchange, rules: Rules) -> None:
        self._exchange = exchange
        self._rules = rules
        info = exchange_info.head(rules, exchange.books.limit(rules.pool))
        symbols = exchange_info.symbols_json(exchange.source.instruments(rules.market))
        self._info_start = json.dumps(info, separators=(",", ":"))[:-1]
        self._info_end = f',"symbols":{symbols}}}'

    def add_to(self, app: web.Application) -> None:
        """Register the market's paths."""
        path = self._rules.path
        app.router.add_get(f"{path}/ping", self.ping)
        app.router.add_get(f"{path}/time", self.time)
        app.router.add_get(f"{path}/exchangeInfo", self.info)
        for kind in kinds_of(self._rules.market):
            app.router.add_get(f"{path}/{kind}", partial(self.rows, kind))

    async def ping(self, request: web.Request) -> web.Response:
        """Answer that the exchange is there."""
        return await self._light(request, LIGHT_WEIGHT, lambda now_ms: b"{}")

    async def time(self, request: web.Request) -> web.Response:
        """Answer what time it is on the exchange."""
        return await self._light(
            request, LIGHT_WEIGHT, lambda now_ms: b'{"serverTime":%d}' % now_ms
        )

    async def info(self, request: web.Request) -> web.Response:
        """Answer exchangeInfo: symbols and the weight limit, or the error that is set for it."""
        answer = await self._light(request, self._rules.exchange_info_weight, self._info)
        status, left = self._exchange.info_status, self._exchange.info_refusals
        if status is None or left == 0 or answer.status != HTTPStatus.OK:
            return answer
        self._exchange.info_refusals = None if left is None else left - 1
        return _json(fault_answers.ANSWERS[Fault.INTERNAL][2], dict(answer.headers), status)

    async def rows(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        """Count a call for rows as it arrives, delay it, then answer it or let it fail."""
        exchange, query = self._exchange, request.query
        call = Call(
            market=self._rules.market,
            kind=kind,
            symbol=query.get(name_parameter(kind)),
            interval=query.get("interval"),
            start=query.get("startTime"),
            end=query.get("endTime"),
            limit=query.get("limit"),
            at_ms=exchange.clock(),
        )
        exchange.note_call(call)
        admission = self._admit(request, call)
        await exchange.latency.wait()
        answer = await self._answer(request, call, admission)
        if call.fault not in UNANSWERED:
            call.status = answer.status
        return answer

    def _admit(self, request: web.Request, call: Call) -> Admission:
        """Count the call, unless a fault of the front door keeps it from the counter."""
        exchange, rules, address = self._exchange, self._rules, request.remote or ""
        exchange.note_arrival()
        fault = exchange.faults.draw()
        if (
            self._has_own_limit(call.kind)
            and exchange.books.banned_until(address, rules.pool, call.at_ms) is None
        ):
            verdict = (
                Verdict(HTTPStatus.OK, 0)
                if fault in UNCHARGED
                else exchange.funding.count(address, call.at_ms)
            )
            return Admission(verdict, fault if verdict.status is HTTPStatus.OK else None)
        if (
            fault in UNCHARGED
            and exchange.books.banned_until(address, rules.pool, call.at_ms) is None
        ):
            return Admission(
                Verdict(HTTPStatus.OK, exchange.books.used(address, rules.pool, call.at_ms)), fault
            )
        is_funding = call.kind is Kind.FUNDING
        weight = (
            LIGHT_WEIGHT if is_funding else klines_weight(rules.market, call.limit, exchange.bands)
        )
        verdict = exchange.books.count(address, rules.pool, weight, call.at_ms)
        return Admission(verdict, fault if verdict.status is HTTPStatus.OK else None)

    async def _answer(
        self, request: web.Request, call: Call, admission: Admission
    ) -> web.StreamResponse:
        verdict, fault = admission
        now_ms = self._exchange.clock()
        headers = self._headers(verdict.used, now_ms - self._exchange.date_shift.due_ms())
        if self._has_own_limit(call.kind):
            del headers[WEIGHT_HEADER]
        if verdict.status is not HTTPStatus.OK:
            return self._refuse(request, verdict, headers, now_ms)
        if fault is not None and fault not in NEEDS_PAGE:
            self._exchange.note_fault(call, fault)
            return await self._fail(request, call, fault, headers)
        try:
            page = self._page(request, call.kind, now_ms)
        except Refusal as refusal:
            return _json(refusal.body, headers, refusal.status)
        if fault is not None:
            self._exchange.note_fault(call, fault)
            return await fault_answers.spoilt(request, fault, page.body, headers)
        self._exchange.note_served(call, page.rows)
        return _json(page.body, headers)

    def _page(self, request: web.Request, kind: Kind, now_ms: int) -> Page:
        question = read_question(self._rules, request.query, kind)
        wanted = window(self._rules, question, now_ms)
        source = self._exchange.source
        return source.page(
            self._rules.market, question.symbol, question.interval, wanted, now_ms=now_ms, kind=kind
        )

    def _has_own_limit(self, kind: Kind) -> bool:
        """Return whether calls of this kind are counted apart from weight, without a header."""
        return kind is Kind.FUNDING and self._rules.market is Market.USD_M

    async def _fail(
        self, request: web.Request, call: Call, fault: Fault, headers: dict[str, str]
    ) -> web.StreamResponse:
        plan, pool, address = self._exchange.faults.plan, self._rules.pool, request.remote or ""
        now_ms = self._exchange.clock()
        if fault is Fault.TOO_MANY:
            verdict = Verdict(
                HTTPStatus.TOO_MANY_REQUESTS, 0, now_ms + plan.retry_after_s * SECOND_MS
            )
            return self._refuse(request, verdict, headers, now_ms)
        if fault is Fault.BANNED:
            until_ms = now_ms + round(plan.ban_s * SECOND_MS)
            self._exchange.books.ban(address, pool, until_ms)
            return self._refuse(
                request, Verdict(HTTPStatus.IM_A_TEAPOT, 0, until_ms), headers, now_ms
            )
        return await fault_answers.answer(request, fault, headers, plan.hang_s)

    async def _light(
        self, request: web.Request, weight: int, body: Callable[[int], bytes]
    ) -> web.Response:
        """Answer a call that is counted but never logged or made to fail."""
        self._exchange.note_arrival()
        verdict = self._exchange.books.count(
            request.remote or "", self._rules.pool, weight, self._exchange.clock()
        )
        await self._exchange.latency.wait()
        now_ms = self._exchange.clock()
        headers = self._headers(verdict.used, now_ms)
        if verdict.status is not HTTPStatus.OK:
            return self._refuse(request, verdict, headers, now_ms)
        return _json(body(now_ms), headers)

    def _info(self, now_ms: int) -> bytes:
        told = f'{self._info_start},"serverTime":{now_ms}{self._info_end}'
        untrue = self._exchange.info_untrue
        return exchange_info.untrue_info(told, untrue) if untrue else told.encode()

    def _refuse(
        self, request: web.Request, verdict: Verdict, headers: dict[str, str], now_ms: int
    ) -> web.Response:
        """Return the 429 or the 418; only spot says in a header how long to wait."""
        pool = self._rules.pool
        if verdict.status is HTTPStatus.TOO_MANY_REQUESTS:
            limit = self._exchange.books.limit(pool) if WEIGHT_HEADER in headers else FUNDING_CALLS
            refusal = refusals.too_much_weight(pool, limit)
        else:
            refusal = refusals.banned(pool, request.remote or "", verdict.until_ms)
        if self._rules.is_spot:
            headers["Retry-After"] = str(seconds_until(verdict.until_ms, now_ms))
        return _json(refusal.body, headers, refusal.status)

    def _headers(self, used: int, now_ms: int) -> dict[str, str]:
        headers = {"Date": self._exchange.date(now_ms), "Server": "nginx", WEIGHT_HEADER: str(used)}
        if self._rules.is_spot:
            headers["x-mbx-used-weight"] = str(used)
        return headers


def _json(body: bytes, headers: dict[str, str], status: int = 200) -> web.Response:
    headers["Content-Type"] = JSON
    return web.Response(body=body, headers=headers, status=status)
