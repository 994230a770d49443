"""Runs the Lua scripts of a run's state, each prepended with `prelude.lua`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis
from redis.commands.core import Script

from klinefleet.tasks.runs.records import Record
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.redis_keys import script_keys

_LUA = Path(__file__).parent / "lua"


class RunScripts:
    """The scripts of a folder of `lua`. `fence`: the fencing number of the planner that calls."""

    def __init__(self, redis: Redis, folder: str, fence: int | None) -> None:
        self._redis = redis
        self._folder = folder
        self._fence = "" if fence is None else fence
        self._scripts: dict[str, Script] = {}

    def call(self, script: str, run: str, *args: Any, keys: Sequence[str] = ()) -> Any:
        """Return the script's answer; raise LeaseLost if a later planner leads the run."""
        if script not in self._scripts:
            self._scripts[script] = self._redis.register_script(_source(self._folder, script))
        answer: Any = self._scripts[script](
            keys=[*script_keys(run), *keys], args=[run, self._fence, *args]
        )
        if answer == -1:
            raise LeaseLost(f"run {run}: another planner leads it now; nothing was written")
        return answer


@cache
def _source(folder: str, script: str) -> str:
    return "".join((_LUA / part).read_text() for part in ("prelude.lua", f"{folder}/{script}.lua"))


def record_arguments(records: Sequence[Record]) -> list[str | int]:
    """Return records as script arguments: their number, then identity and text of each."""
    return [len(records), *(part for record in records for part in (record.identity, record.text))]


def count_arguments(counts: Mapping[str, int]) -> list[str | int]:
    """Return counts as script arguments: counter, amount, …"""
    return [part for pair in counts.items() for part in pair]


def as_pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Return a script's flat answer as pairs."""
    return zip(flat[::2], flat[1::2], strict=True)
