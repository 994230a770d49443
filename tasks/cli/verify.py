"""`klines verify`: is what the lake holds still what was written, and what the exchange says?"""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from klinefleet.tasks.cli.download import submit
from klinefleet.tasks.cli.options import run_options, symbol_options
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import (
    fleet_services,
    hear_sigterm,
    offline_services,
    private_fleet,
)
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode

if TYPE_CHECKING:
    # Imported where they are used: Polars and Celery would make every command start later.
    from klinefleet.tasks.client.repair import Repair
    from klinefleet.tasks.client.verify_run import Check
    from klinefleet.tasks.verification.compare import Sample
    from klinefleet.tasks.verification.pieces import Findings, Piece
    from klinefleet.tasks.verification.scope import Scope
    from klinefleet.workers.lake.faults import Fault


#: Things that could not be compared that are named; the rest are counted.
NAMED = 20
#: The first open time that `--revisions` asks for where none is given.
_FIRST = "2017-01-01"


@click.command()
@click.option(
    "--market", help="Only spot, um (USD-M futures) or cm (COIN-M futures); --revisions needs one."
)
@symbol_options
@click.option("--kind", help="Only this kind; with --revisions klines where it is not given.")
@click.option("--interval", help="Only this interval; with --revisions 1m where it is not given.")
@click.option(
    "--start", help="Only months that end after this, UTC; with --revisions the first open time."
)
@click.option(
    "--end", help="Only months that begin before this, UTC; with --revisions the end, exclusive."
)
@click.option(
    "--revisions", is_flag=True, help="Fetch again what the exchange's archive has published anew."
)
@click.option(
    "--against", help="Compare a sample with its source, value by value: archive or rest."
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Part that is compared.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Draws the same sample again; it is printed."
)
@click.option("--repair", "mend", is_flag=True, help="Fetch again what is wrong, exactly that.")
@run_options
def verify(revisions: bool, **options: Any) -> None:
    """Read partitions again and tell what is wrong with them: exit 1 and a list where anything is.

    Without options all of the lake, by the fleet; --local does it in this process. With --repair
    faulty time is taken out (what was there is kept under damaged/), fetched again and verified
    again.

    --revisions holds the lake against the archive's list instead: files that were published anew
    since are fetched again. Where they disagree with what is held, REST and the daily files are
    asked as well, and the majority stands.
    """
    if revisions:
        _revise(options)
    else:
        _verify(options)


def _revise(options: dict[str, Any]) -> None:
    if options["market"] is None:
        raise RequestError(
            "say which --market to hold against the archive's list; nothing was queued"
        )
    if options["against"] or options["mend"]:
        raise RequestError(
            "--against and --repair check what is held, --revisions what is published; nothing "
            "was queued"
        )
    options["kind"] = options["kind"] or DEFAULT_KIND.name
    submit(
        options, start=options["start"] or _FIRST, end=options["end"], source="auto", revise=True
    )


def _verify(options: dict[str, Any]) -> None:
    """Check what is meant, show it, and mend it where that is asked for."""
    from klinefleet.tasks.client.verify_run import check_by_fleet, check_here
    from klinefleet.tasks.verification.scope import list_partitions, split_into_pieces

    local, mend = options["local"], options["mend"]
    scope, sample = _scope(options), _sample(options)
    with ExitStack() as stack:
        services = (
            offline_services()
            if local and not mend and sample.reference != "rest"
            else stack.enter_context(fleet_services(local=local))
        )
        partitions = list_partitions(services, scope)
        _check_held(scope, {series.symbol for series, _ in partitions})
        pieces = split_into_pieces(partitions, sample)
        queues = _prepare(services, pieces, sample, is_local=local, mend=mend)
        if sample.reference != "nothing":
            _say(f"comparing {sample.share:.2%} with {sample.reference}, --seed {sample.seed}")
        # Its lanes are forks: none may be made once threads of Polars run here.
        supervisor = (
            stack.enter_context(private_fleet(services, queues)) if local and queues else None
        )
        check: Check = check_here if local else check_by_fleet
        hear_sigterm()
        found, done, left = _checked(check, services, pieces), None, None
        if mend and found.faults:
            _say(f"{len(found.faults):,} faults; taking them out and fetching them again")
            done, left = _mended(
                check,
                services,
                found,
                sample,
                supervisor.restart_dead if supervisor else lambda: None,
            )
    click.echo(
        json.dumps(_facts(found, sample, done, left))
        if options["as_json"]
        else _text(found, done, left)
    )
    sys.exit(0 if _is_well(found, done, left) else 1)


def _prepare(
    services: Services, pieces: list[Piece], sample: Sample, *, is_local: bool, mend: bool
) -> list[str]:
    """Refuse what cannot be done before anything is, and return the queues that a repair needs."""
    from klinefleet.tasks.verification.pieces import piece_queue

    groups = {(piece.series.market, piece.series.kind) for piece in pieces}
    to_mend = (
        {queue for market, kind in groups for queue in preflight.queues_of(market, kind, Mode.AUTO)}
        if mend
        else set()
    )
    if mend:
        preflight.check_store(services)
    if not is_local:
        preflight.check_redis(services)
        preflight.check_workers(
            services, sorted({*map(piece_queue, pieces)} | to_mend), "do it here with --local"
        )
    if sample.reference == "rest":
        for market in sorted({market for market, _ in groups}):
            preflight.load_exchange_info(services, market)
    return sorted(to_mend)


def _checked(check: Check, services: Services, pieces: list[Piece]) -> Findings:
    from klinefleet.tasks.client.progress_bar import progress_display

    with progress_display("verifying") as shows:
        return check(services, pieces, shows)


def _mended(
    check: Check, services: Services, found: Findings, sample: Sample, tend: Any
) -> tuple[Repair, Findings]:
    """Repair what was found, and check the partitions again."""
    from klinefleet.tasks.client.repair import repair
    from klinefleet.tasks.verification.pieces import Piece
    from klinefleet.workers.lake import keys

    try:
        done = repair(services, found.faults, tend)
    except KeyboardInterrupt:
        _say(
            "cancelled: what was taken out is missing now; `klines download` of the same time "
            "fetches it"
        )
        raise
    wrong = sorted({of for fault in found.faults if (of := keys.partition_of(fault.key))})
    # Each alone and surely compared: so its sample is at least the one that was drawn before.
    return done, _checked(
        check, services, [Piece(series, (month,), sample, month) for series, month in wrong]
    )


def _scope(options: dict[str, Any]) -> Scope:
    from klinefleet.tasks.requests.symbols import parse_selection
    from klinefleet.tasks.verification.scope import Scope

    if options["detach"]:
        raise RequestError(
            "--detach goes with --revisions alone: a verification ends with its command"
        )
    if options["quote"] or options["status"] != "all" or options["skip_unknown"]:
        raise RequestError(
            "--quote, --status and --skip-unknown go with --revisions alone; nothing was checked"
        )
    every = options["every"] or (options["symbols"] is None and options["symbols_file"] is None)
    selection = parse_selection(options["symbols"], options["symbols_file"], options["top"], every)
    market = parsing.parse_market(options["market"]) if options["market"] else None
    start_ms, end_ms = (
        parsing.parse_timestamp(name, options[name]) if options[name] else None
        for name in ("start", "end")
    )
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise RequestError(
            f"start {options['start']} is not before end {options['end']}; nothing was checked"
        )
    return Scope(
        market,
        _kind(options["kind"]),
        _interval(options["interval"]),
        selection.names or (),
        start_ms,
        end_ms,
    )


def _kind(text: str | None) -> Kind | None:
    try:
        return None if text is None else parsing.parse_kind(None, text)
    except RequestError as error:
        raise RequestError(f"{error}; nothing was checked") from None


def _interval(text: str | None) -> Interval | None:
    if text is not None and text not in CANDLE_INTERVALS:
        raise RequestError(
            f"no interval {text!r}; there are {', '.join(CANDLE_INTERVALS)}; nothing was checked"
        )
    return None if text is None else Interval(text)


def _sample(options: dict[str, Any]) -> Sample:
    from klinefleet.tasks.verification.compare import NO_SAMPLE, Reference, Sample

    against, known = options["against"], [Reference.ARCHIVE, Reference.REST]
    if against is None:
        return NO_SAMPLE
    if against.lower() not in known:
        raise RequestError(
            f"no source {against!r} to compare with; there are {', '.join(known)}; nothing was "
            "checked"
        )
    seed = secrets.randbelow(1 << 31) if options["seed"] is None else options["seed"]
    return Sample(Reference(against.lower()), options["sample"], seed)


def _check_held(scope: Scope, held: set[str]) -> None:
    """Refuse what the lake holds nothing of: a misspelt symbol must not pass for a clean one."""
    unknown = [name for name in scope.symbols if name not in held]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise RequestError(
            f"the lake holds nothing of {unknown[0]}{more} that you ask for; nothing was checked"
        )


def _facts(
    found: Findings, sample: Sample, done: Repair | None, left: Findings | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "partitions": found.partitions,
        "rows": found.rows,
        "unproved": found.unproved,
        "against": str(sample.reference),
        "seed": sample.seed,
        "compared": found.compared,
        "faults": [fault.facts() for fault in found.faults],
        "told": found.not_compared,
        "failed": found.failed,
    }
    if done is not None and left is not None:
        mended = [fault.facts() for fault in _mended_of(found, done, left)]
        facts["repair"] = {
            "runs": [run.run for run in done.runs],
            "mended": mended,
            "left": [fault.facts() for fault in left.faults],
            "failed": done.failed | left.failed,
        }
    return facts


def _text(found: Findings, done: Repair | None, left: Findings | None) -> str:
    lines = [str(fault) for fault in found.faults]
    lines += _named("not compared, ", found.not_compared) + _named("FAILED ", found.failed)
    compared = f", {found.compared:,} of them compared" if found.compared else ""
    wrong = len({fault.key for fault in found.faults})
    told = (
        f"{len(found.faults):,} faults in {wrong:,} partitions" if found.faults else "nothing wrong"
    )
    lines.append(f"{found.partitions:,} partitions, {found.rows:,} rows{compared}: {told}")
    if found.unproved:
        old = f"{found.unproved:,} partitions of an earlier version have no proof"
        lines.append(f"{old}: of a minute that they lack nobody knows whether the exchange had it")
    if done is not None and left is not None:
        lines += [f"mended {fault.key}: {fault.what}" for fault in _mended_of(found, done, left)]
        lines += [f"LEFT {fault}" for fault in left.faults]
        lines += _named("FAILED ", done.failed | left.failed)
    return "\n".join(lines)


def _is_well(found: Findings, done: Repair | None, left: Findings | None) -> bool:
    """Return whether all was checked, and nothing is wrong (any more)."""
    if found.failed or done is None or left is None:
        return not (found.failed or found.faults)
    return not (done.failed or left.failed or left.faults)


def _mended_of(found: Findings, done: Repair, left: Findings) -> list[Fault]:
    """Return the faults that are no more."""
    from klinefleet.workers.lake import keys

    still = {fault.key for fault in left.faults} | left.failed.keys()
    parsed = [(fault, keys.partition_of(fault.key)) for fault in found.faults]
    return [
        fault for fault, of in parsed if of and fault.key not in still and done.is_mended(of[0])
    ]


def _named(mark: str, told: dict[str, str]) -> list[str]:
    lines = [f"{mark}{name}: {text}" for name, text in list(told.items())[:NAMED]]
    return lines if len(told) <= NAMED else [*lines, f"{mark}and {len(told) - NAMED:,} more"]


def _say(text: str) -> None:
    click.echo(text, err=True)
