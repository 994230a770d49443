"""`make bench`: the figures of deploy/docs/figures.md. `ONLY=name` runs one of them.

Nothing here asserts a time: the machine decides those. What is asserted is that the work was done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import (
    addresses,
    archive,
    budget_in_redis,
    compaction_memory,
    coverage,
    held_lake,
    neighbours,
    reading,
    rest,
    small_files,
)

BENCHMARKS: dict[str, Callable[[], None]] = {
    "symbol_year": rest.symbol_year,
    "local_start": rest.local_start,
    "repeat": rest.repeat,
    "faulty_answers": rest.faulty_answers,
    "planning": rest.planning,
    "archive_year": archive.archive_year,
    "archive_cores": archive.archive_cores,
    "small_files": small_files.small_files,
    "compaction_memory": compaction_memory.compaction_memory,
    "planning_held": held_lake.planning_held,
    "reading": reading.reading,
    "fifty_days": reading.fifty_days,
    "eight_years": reading.eight_years,
    "coverage": coverage.coverage,
    "budget": rest.budget,
    "budget_4_workers": lambda: rest.budget(workers=4),
    "beside_others": neighbours.beside_others,
    "beside_others_processes": neighbours.beside_others_processes,
    "budget_in_redis": budget_in_redis.budget_in_redis,
    "two_addresses": addresses.two_addresses,
}


if __name__ == "__main__":
    if unknown := [name for name in sys.argv[1:] if name not in BENCHMARKS]:
        print(
            f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr
        )
        sys.exit(2)
    for chosen in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[chosen]()
