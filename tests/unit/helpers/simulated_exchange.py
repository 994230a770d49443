"""An exchange in the test's own process, and calls to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from deploy.simulator.exchange import Exchange
from deploy.simulator.moments import utc_ms
from deploy.simulator.server import serving
from deploy.simulator.source import Generated

NOW_MS = utc_ms("2026-11-21 01:00:30.900")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Client:
    """Calls an exchange that runs in this process, and owns its clock."""

    session: aiohttp.ClientSession
    now_ms: int = NOW_MS
    answers: list[Answer] = field(default_factory=list)

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def call(self, method: str, path: str, told: object = None) -> Answer:
        async with self.session.request(method, path, json=told) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, headers, await answer.json(content_type=None))


def with_exchange(scenario: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        holder: list[Client] = []
        exchange = Exchange(
            clock=lambda: holder[0].now_ms if holder else NOW_MS,
            source=Generated(symbols=30),
            **options,
        )
        async with serving(exchange) as url, aiohttp.ClientSession(url) as session:
            holder.append(Client(session))
            await scenario(holder[0])

    asyncio.run(run())
