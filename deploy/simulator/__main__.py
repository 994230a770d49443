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
Prints its base URL on one line when it is ready. Ends on SIGTERM or Ctrl-C.

Serves /api/v3, /fapi/v1 and /dapi/v1: ping, time, exchangeInfo, klines; on futures also
markPriceKlines, indexPriceKlines, premiumIndexKlines and fundingRate. Serves the archive's zips
and CHECKSUMs below /data, and the bucket's listing at /archive-list. Rows are a pure function of
market, kind, symbol, interval and time; deploy.simulator.truth returns all of them.

control (JSON, never counted as weight):
  GET    /sim/books     minutes, calls, rows served, faults; DELETE clears them and ends bans
  GET    /sim/calls     the calls for rows in order of arrival; DELETE empties the log
  PUT    /sim/faults    {"rates": {"reset": 0.01}, "seed": 1, "retry_after_s": 1, "ban_s": 3,
                        "hang_s": 30}
  PUT    /sim/latency   {"ms": 280, "jitter_ms": 0}
  PUT    /sim/date      {"behind_ms": 864000000, "answers": 3}: the Date header of the next three
                        answers with rows; null: of all
  PUT    /sim/info      {"status": 500}: the answer of exchangeInfo; null ends it
                        {"untrue": {"SOLUSDT": {"onboardDate": 1700000000000}, "ETHUSDT": null}}:
                        replaces fields of symbols in exchangeInfo; null leaves the symbol out;
                        {} ends it
  POST   /sim/ban       {"address": "127.0.0.1", "pool": "spot", "seconds": 5}
  PUT    /sim/foreign   {"address": "127.0.0.1", "pool": "futures", "weight_per_minute": 600}
                        another program spends so much evenly; 0, or nothing, ends it. A
                        "profile" in its place, or a list of them, goes by calendar minutes:
                        {"even": 600}
                        {"weight": 600, "seconds": [0.3, 30]}: so much at once at each of these
                        seconds, in calls of at most 10; "every": 3: in every third minute
                        {"random": 1200, "seed": 1}: bursts at any time, up to so much a minute;
                        each may have "first_minute": 2, which counts from 0, the minute of this
                        request, and "minutes": 3, after which it ends
  PUT    /sim/archive   {"rates": {"corrupt": 0.1, "absent": 0.05}, "seed": 1, "only": "monthly",
                        "latency_ms": 50}; "status": 451 refuses everything; faults: corrupt,
                        transient_corrupt, damaged_zip, wrong_member, no_checksum, truncated, late
                        (with "late_days": 4), absent, short, shuffled, repeated, conflicting, stale
  GET    /sim/archive   the archive's calls and the faults served; ?key=… one file's fault;
                        DELETE empties the log
  POST   /sim/archive/reissue
                        {"key": "data/….zip", "change": 3}: publish it again without its fault,
                        with three rows changed

example:
  python -m deploy.simulator --port 8000 --latency-ms 280 --skew-ms -1500
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.simulator",
        description="A stand-in for the exchange's REST API and archive, offline, on one port.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on; 0 picks a free one (default)"
    )
    parser.add_argument("--latency-ms", type=float, default=0, help="delay of every market answer")
    parser.add_argument(
        "--jitter-ms", type=float, default=0, help="random delay added to it, at most"
    )
    parser.add_argument(
        "--archive-latency-ms", type=float, default=0, help="delay of every archive answer"
    )
    parser.add_argument(
        "--spot-limit",
        type=int,
        default=DEFAULT_LIMITS[Pool.SPOT],
        help="spot weight limit a minute",
    )
    parser.add_argument(
        "--futures-limit",
        type=int,
        default=DEFAULT_LIMITS[Pool.FUTURES],
        help="weight limit a minute that both futures markets share",
    )
    parser.add_argument(
        "--weights",
        type=Bands,
        choices=list(Bands),
        default=Bands.MEASURED,
        help="table of weights for futures klines",
    )
    parser.add_argument(
        "--skew-ms", type=int, default=0, help="how far its clock is ahead of this machine's"
    )
    parser.add_argument(
        "--ban-s",
        type=float,
        default=DEFAULT_BAN_S,
        help="length of the first ban; each next one is twice as long",
    )
    parser.add_argument(
        "--symbols", type=int, default=400, help="number of symbols listed on spot and on USD-M"
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="DIR",
        help="serve the recorded files below DIR instead",
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
    """Serve until SIGTERM or SIGINT."""
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
