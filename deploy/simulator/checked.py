"""Control calls that make no sense are answered with a sentence."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]


def checked(handler: Handler) -> Handler:
    """Return the handler; it answers 400 with a sentence where a request cannot be understood."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            problem: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"}
            return web.json_response(problem, status=400)

    return answer
