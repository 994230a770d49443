"""The budget's Lua scripts on a table instead of Redis, for simulated fleets: thousands of calls a
second, with the time that the test sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lupa import lua51

from klinefleet.workers.limits.redis_budget import SCRIPTS, RedisBudget
from klinefleet.workers.support.clock import Clock

#: The commands that the scripts use, on a table of hashes. As in Redis, values are strings and what
#: is missing is false.
_COMMANDS = """
local stored, commands = {}, {}

function commands.HSET(key, ...)
  local hash = stored[key] or {}
  stored[key] = hash
  local pairs_of = {...}
  for i = 1, #pairs_of, 2 do hash[pairs_of[i]] = tostring(pairs_of[i + 1]) end
end

function commands.HMGET(key, ...)
  local hash, values = stored[key] or {}, {}
  for i, name in ipairs({...}) do values[i] = hash[name] or false end
  return values
end

function commands.PEXPIRE() end

redis = {call = function(name, ...) return commands[name](...) end}

return function(script, keys, args) KEYS, ARGV = keys, args; return script() end, commands.HSET
"""


class LuaBudget(RedisBudget):
    """The budget of one process, with the rules of the one in Redis."""

    def __init__(self, clock: Clock, *, share: float = 1.0, egress: str = "lua") -> None:
        self._runtime = lua51.LuaRuntime()
        self._call, hset = self._runtime.execute(_COMMANDS)
        self._compiled = {
            verb: self._runtime.eval(f"function() {script}\nend")
            for verb, script in SCRIPTS.items()
        }
        super().__init__(_Table(hset), "futures", egress, share=share)  # type: ignore[arg-type]
        self._keys_table = self._runtime.table_from(self._keys)
        self._clock = clock

    def _run(self, verb: str, *args: int) -> list[int]:
        # Redis passes every argument as a string.
        given = self._runtime.table_from([str(arg) for arg in (self._clock.now_ms(), *args)])
        answer: Any = self._call(self._compiled[verb], self._keys_table, given)
        return [answer] if isinstance(answer, int) else [int(n) for n in answer.values()]


class _Table:
    """Takes the place of the client: what the budget writes without a script."""

    def __init__(self, hset: Callable[..., None]) -> None:
        self._hset = hset

    def register_script(self, script: str) -> None:
        return None

    def hset(
        self,
        key: str,
        name: str = "",
        value: object = "",
        mapping: Mapping[str, object] | None = None,
    ) -> None:
        for field, to in (mapping or {name: value}).items():
            self._hset(key, field, to)
