"""Every error body the exchange answers with, by the rule that was broken."""

from __future__ import annotations

import json

from deploy.simulator.markets import Pool

LEGAL_NUMBER = "^[0-9]{1,20}$"
LEGAL_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"


class Refusal(Exception):
    """A call is answered with an error instead of data."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(f"{status} {code} {text}")
        self.code = code
        self.text = text
        self.status = status

    @property
    def body(self) -> bytes:
        """Return the JSON the exchange sends."""
        return json.dumps(
            {"code": self.code, "msg": self.text}, separators=(",", ":"), ensure_ascii=False
        ).encode()


def missing(parameter: str) -> Refusal:
    return Refusal(
        -1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed."
    )


def empty(parameter: str) -> Refusal:
    return Refusal(-1105, f"Parameter '{parameter}' was empty.")


def illegal_characters(parameter: str, legal: str) -> Refusal:
    return Refusal(
        -1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{legal}'."
    )


def invalid_limit() -> Refusal:
    return Refusal(-1130, "Data sent for parameter 'limit' is not valid.")


def invalid_interval() -> Refusal:
    return Refusal(-1120, "Invalid interval.")


def invalid_symbol() -> Refusal:
    return Refusal(-1121, "Invalid symbol.")


def start_after_end() -> Refusal:
    return Refusal(-1023, "Start time is greater than end time.")


def span_too_long(days: int) -> Refusal:
    return Refusal(-4088, f"Maximum time interval is {days} days.")


def too_much_weight(pool: Pool, limit: int) -> Refusal:
    """Return the 429: this minute's weight is spent."""
    if pool is Pool.SPOT:
        text = (
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
    else:
        text = (
            f"Too many requests; current limit is {limit} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API."
        )
    return Refusal(-1003, text, status=429)


def banned(pool: Pool, address: str, until_ms: int) -> Refusal:
    """Return the 418: the address is shut out until `until_ms`."""
    if pool is Pool.SPOT:
        text = (
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
    else:
        text = (
            f"Way too many requests; IP({address}) banned until {until_ms}. "
            "Please use the websocket for live updates to avoid bans."
        )
    return Refusal(-1003, text, status=418)
