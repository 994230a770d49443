"""Run the stand-in exchange: `python -m deploy.simulator`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

from deploy.simulator.exchange import DEFAULT_BAN_S, DEFAULT_LIMITS, Exchange, Latency
from deploy.simulator.markets import Bands, Pool
from deploy.simulator.replay import Replay
from deploy.simulator.server import serving
from deploy.simulator.source import Generated, Source

EPILOG = """\
Prints its base URL, one line, when it is ready; ends on SIGTERM or Ctrl-C.
Serves /api/v3, /fapi/v1 and /dapi/v1: ping, time, exchangeInfo, klines; of futures also markPriceKlines,
indexPriceKlines, premiumIndexKlines and fundingRate. Serves the archive's zips and CHECKSUMs below /data and the
bucket's listing at /archive-list. Rows are a pure function of market, kind, symbol, interval and time;
deploy.simulator.truth tells the whole truth.

control (JSON, never counted as weight):
  GET    /sim/books     minutes, calls, rows served, faults struck      DELETE starts anew and ends bans
  GET    /sim/calls     the calls for rows in order of arrival           DELETE empties the log
  PUT    /sim/faults    {"rates": {"reset": 0.01}, "seed": 1, "retry_after_s": 1, "ban_s": 3, "hang_s": 30}
  PUT    /sim/latency   {"ms": 280, "jitter_ms": 0}
  PUT    /sim/date      {"behind_ms": 864000000, "answers": 3}: the Date of so many answers with rows; null, of all
  PUT    /sim/info      {"status": 500}: what exchangeInfo is answered with; null ends it
  POST   /sim/ban       {"address": "127.0.0.1", "pool": "spot", "seconds": 5}
  PUT    /sim/foreign   {"address": "127.0.0.1", "pool": "futures", "weight_per_minute": 600}
  PUT    /sim/archive   {"rates": {"corrupt": 0.1, "absent": 0.05}, "seed": 1, "only": "monthly", "latency_ms": 50}
                        faults: corrupt transient_corrupt damaged_zip wrong_member no_checksum truncated late (and
                        "late_days": 4) absent short shuffled repeated conflicting stale; "status": 451 refuses all
  GET    /sim/archive   the archive's calls, the faults served     DELETE empties the log; ?key=… a file's fault
  POST   /sim/archive/reissue  {"key": "data/….zip", "change": 3}: anew and mended, or with 3 rows changed

example:
  python -m deploy.simulator --port 8000 --latency-ms 280 --skew-ms -1500
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of a run."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.simulator",
        description="A stand-in for the exchange's REST interface and archive, offline and on one "
        "port.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on; 0 picks a free one (default)"
    )
    parser.add_argument(
        "--latency-ms", type=float, default=0, help="hold every market answer back so long"
    )
    parser.add_argument(
        "--jitter-ms", type=float, default=0, help="and up to so much longer, evenly spread"
    )
    parser.add_argument(
        "--archive-latency-ms", type=float, default=0, help="hold every archive answer back so long"
    )
    parser.add_argument(
        "--spot-limit", type=int, default=DEFAULT_LIMITS[Pool.SPOT], help="spot weight a minute"
    )
    parser.add_argument(
        "--futures-limit",
        type=int,
        default=DEFAULT_LIMITS[Pool.FUTURES],
        help="weight both futures markets share",
    )
    parser.add_argument(
        "--weights",
        type=Bands,
        choices=list(Bands),
        default=Bands.MEASURED,
        help="which table prices futures klines",
    )
    parser.add_argument(
        "--skew-ms", type=int, default=0, help="how far the exchange's clock is ahead of this one"
    )
    parser.add_argument(
        "--ban-s", type=float, default=DEFAULT_BAN_S, help="length of a first ban; it doubles"
    )
    parser.add_argument(
        "--symbols", type=int, default=400, help="symbols listed on spot and on USD-M"
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="DIR",
        help="serve the recorded candle files below DIR instead",
    )
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> Exchange:
    """Return the exchange these options describe."""
    source: Source = Replay(options.replay) if options.replay else Generated(options.symbols)
    return Exchange(
        clock=lambda: time.time_ns() // 1_000_000 + options.skew_ms,
        source=source,
        limits={Pool.SPOT: options.spot_limit, Pool.FUTURES: options.futures_limit},
        bands=options.weights,
        ban_s=options.ban_s,
        latency=Latency(options.latency_ms, options.jitter_ms),
        archive_latency_ms=options.archive_latency_ms,
    )


async def serve(options: argparse.Namespace) -> None:
    """Serve until the process is told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(build(options), options.host, options.port) as url:
        print(url, flush=True)
        await stop.wait()


def main() -> None:
    asyncio.run(serve(parse()))


if __name__ == "__main__":
    main()
