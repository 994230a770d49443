"""`klines verify`: check that stored rows are intact, and that the exchange still has the same."""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from klinefleet.tasks.cli.download import DEFAULT_START, submit
from klinefleet.tasks.cli.options import (
    end_option,
    interval_option,
    kind_option,
    market_option,
    run_options,
    start_option,
    symbol_options,
)
from klinefleet.tasks.cli.output.reasons import reason_lines
from klinefleet.tasks.client import preflight
from klinefleet.tasks.client.session import (
    fleet_services,
    handle_sigterm_as_ctrl_c,
    offline_services,
    private_fleet,
)
from klinefleet.tasks.requests.build import parse_bounds
from klinefleet.tasks.requests.refusal import on_refusal
from klinefleet.workers.domain import parsing
from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.kinds.registry import DEFAULT_KIND
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.services import Services
from klinefleet.workers.sources.policy import Mode
from klinefleet.workers.support.masking import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from klinefleet.tasks.client.repair import Repair
    from klinefleet.tasks.client.verify_run import Check
    from klinefleet.tasks.verification.compare import Sample
    from klinefleet.tasks.verification.pieces import Findings, VerificationPiece
    from klinefleet.tasks.verification.scope import Scope
    from klinefleet.workers.lake.faults import Fault


@click.command()
@market_option(show_default="all; --revisions needs one")
@symbol_options
@kind_option(show_default=f"all; with --revisions {DEFAULT_KIND}")
@interval_option(show_default="all; with --revisions 1m")
@start_option(
    "Only partitions that end after this, UTC; with --revisions the first open time.",
    show_default="all",
)
@end_option(
    "Only partitions that begin before this, UTC; with --revisions the end, exclusive.",
    show_default="all; with --revisions now",
)
@click.option("--revisions", is_flag=True, help="Fetch archive files that were published again.")
@click.option(
    "--against",
    metavar="SOURCE",
    help="Compare a sample, value by value, with a source: archive or rest.",
)
@click.option(
    "--sample",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="With --against: share of the days to compare, from 0 to 1.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    show_default="a random one, which is printed",
    help="With --against: seed of the sample, to draw the same one again.",
)
@click.option("--repair", "mend", is_flag=True, help="Remove faulty time and fetch it again.")
@run_options
def verify(revisions: bool, **options: Any) -> None:
    """Check stored rows, and repair them if asked.

    Without options, workers check the whole lake; with --local, this process does. Each fault is
    one line, and the exit code is then 1.

    --repair removes faulty time (a copy is kept under damaged/ in the store), fetches it again and
    checks it again.

    --revisions checks the archive instead: files that were published again since are fetched again.
    Where they disagree with the lake, REST and the daily files are asked too, and the majority
    wins.

    \b
      klines verify --local --market um --symbols BTCUSDT --start 2024-01-01
      klines verify --against archive --sample 0.05
      klines verify --revisions --market um --symbols BTCUSDT
    """
    if revisions:
        _revise(options)
    else:
        _verify(options)


def _revise(options: dict[str, Any]) -> None:
    """Queue a run that fetches what the archive has published again."""
    with on_refusal("nothing was queued"):
        if options["market"] is None:
            raise RequestError("--revisions needs --market")
        if options["against"] or options["mend"]:
            raise RequestError("--revisions cannot be combined with --against or --repair")
    options["kind"] = options["kind"] or DEFAULT_KIND.name
    start = options["start"] or DEFAULT_START
    submit(options, start=start, end=options["end"], source="auto", revise=True)


def _verify(options: dict[str, Any]) -> None:
    """Check the selected partitions, repair them if asked, and print the result."""
    from klinefleet.tasks.client.verify_run import check_by_fleet, check_here
    from klinefleet.tasks.verification.scope import list_partitions, split_into_pieces

    local, mend = options["local"], options["mend"]
    with ExitStack() as stack:
        with on_refusal("nothing was checked"):
            scope, sample = _parse_scope(options), _parse_sample(options)
            is_offline = local and not mend and sample.reference != "rest"
            services = (
                offline_services()
                if is_offline
                else stack.enter_context(fleet_services(local=local))
            )
            partitions = list_partitions(services, scope)
            _check_held(scope, {one.series.symbol for one in partitions})
            pieces = split_into_pieces(partitions, sample)
            repair_queues = _prepare(services, pieces, sample, is_local=local, mend=mend)
        if sample.reference != "nothing":
            _say(f"comparing {sample.share:.2%} with {sample.reference}, --seed {sample.seed}")
        # Starts its workers by fork: that is only safe before Polars has threads in this process.
        supervisor = (
            stack.enter_context(private_fleet(services, repair_queues))
            if local and repair_queues
            else None
        )
        check: Check = check_here if local else check_by_fleet
        handle_sigterm_as_ctrl_c()
        found, repaired, left = _check_pieces(check, services, pieces), None, None
        if mend and found.faults:
            _say(f"{len(found.faults):,} faults; removing and fetching that time again")
            on_poll = supervisor.restart_dead if supervisor else lambda: None
            repaired, left = _repair(check, services, found, sample, on_poll)
    if options["as_json"]:
        click.echo(json.dumps(_facts(found, sample, repaired, left)))
    else:
        click.echo(_text(found, repaired, left))
    sys.exit(0 if _is_sound(found, repaired, left) else 1)


def _prepare(
    services: Services,
    pieces: list[VerificationPiece],
    sample: Sample,
    *,
    is_local: bool,
    mend: bool,
) -> list[str]:
    """Check what the verification needs, and return the queues that a repair needs."""
    groups = {(piece.series.market, piece.series.kind) for piece in pieces}
    repair_queues = {
        queue
        for market, kind in groups
        for queue in preflight.required_queues(market, kind, Mode.AUTO)
        if mend
    }
    if mend:
        preflight.check_store(services)
        preflight.check_lake(services)
    if not is_local:
        queues = sorted({piece.queue for piece in pieces} | repair_queues)
        preflight.check_same_store(services)
        preflight.check_workers(services, queues, "check in this process with --local")
    if sample.reference == "rest":
        for market in sorted({market for market, _ in groups}):
            preflight.load_exchange_info(services, market, Mode.REST)
    return sorted(repair_queues)


def _check_pieces(check: Check, services: Services, pieces: list[VerificationPiece]) -> Findings:
    """Check the pieces, showing progress."""
    from klinefleet.tasks.client.progress_bar import progress_display

    with progress_display("verifying") as display:
        return check(services, pieces, display)


def _repair(
    check: Check,
    services: Services,
    found: Findings,
    sample: Sample,
    on_poll: Callable[[], None],
) -> tuple[Repair, Findings]:
    """Repair the faults, and check the faulty partitions again."""
    from klinefleet.tasks.client.repair import repair
    from klinefleet.tasks.verification.pieces import VerificationPiece
    from klinefleet.workers.lake import keys

    try:
        repaired = repair(services, found.faults, on_poll)
    except KeyboardInterrupt:
        _say("cancelled; the removed time is missing, and `klines download` fetches it again")
        raise
    faulty = sorted(
        {partition for fault in found.faults if (partition := keys.partition_of(fault.key))}
    )
    # A piece for each, which is compared for sure: at least as much is compared as before.
    again = [VerificationPiece(one.series, (one.period,), sample, one.period) for one in faulty]
    return repaired, _check_pieces(check, services, again)


def _parse_scope(options: dict[str, Any]) -> Scope:
    """Return which partitions to check; RequestError for options of --revisions."""
    from klinefleet.tasks.requests.symbols import parse_selection
    from klinefleet.tasks.verification.scope import Scope

    if options["detach"]:
        raise RequestError("--detach needs --revisions: a verification ends with its command")
    if options["quote"] or options["status"] != "all" or options["skip_unknown"]:
        raise RequestError("--quote, --status and --skip-unknown need --revisions")
    symbols, file = options["symbols"], options["symbols_file"]
    is_all = options["all"] or (symbols is None and file is None)
    selection = parse_selection(symbols, file, options["top"], is_all)
    market, kind, interval = options["market"], options["kind"], options["interval"]
    return Scope(
        parsing.parse_market(market) if market else None,
        parsing.parse_kind(None, kind) if kind is not None else None,
        # Without a market, any interval of spot is right: it has all there are.
        parsing.parse_interval(Market.SPOT, DEFAULT_KIND, interval)
        if interval is not None
        else None,
        selection.names or (),
        *parse_bounds(options["start"] or None, options["end"] or None),
    )


def _parse_sample(options: dict[str, Any]) -> Sample:
    """Return which part to compare, and with what."""
    from klinefleet.tasks.verification.compare import NO_SAMPLE, Reference, Sample

    against, known = options["against"], [Reference.ARCHIVE, Reference.REST]
    if against is None:
        return NO_SAMPLE
    if against.lower() not in known:
        raise RequestError(f"--against takes {' or '.join(known)}, not {against!r}")
    seed = secrets.randbelow(1 << 31) if options["seed"] is None else options["seed"]
    return Sample(Reference(against.lower()), options["sample"], seed)


def _check_held(scope: Scope, held: set[str]) -> None:
    """Raise RequestError for symbols that the lake lacks: a misspelt one must not pass as sound."""
    unknown = [name for name in scope.symbols if name not in held]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise RequestError(f"the lake holds no partition in this range of {unknown[0]}{more}")


def _facts(
    found: Findings, sample: Sample, repaired: Repair | None, left: Findings | None
) -> dict[str, Any]:
    """Return the result for --json."""
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
    if repaired is not None and left is not None:
        mended = [fault.facts() for fault in _repaired_faults(found, repaired, left)]
        facts["repair"] = {
            "runs": [run.run for run in repaired.runs],
            "mended": mended,
            "left": [fault.facts() for fault in left.faults],
            "failed": repaired.failed | left.failed,
        }
    return facts


def _text(found: Findings, repaired: Repair | None, left: Findings | None) -> str:
    """Return the result for people: a line for each fault, and the totals."""
    lines = [str(fault) for fault in found.faults]
    lines += reason_lines("not compared, ", found.not_compared) + reason_lines(
        "FAILED ", found.failed
    )
    compared = f", {found.compared:,} of them compared" if found.compared else ""
    faulty = len({fault.key for fault in found.faults})
    faults = f"{len(found.faults):,} faults in {faulty:,} partitions" if faulty else "no faults"
    lines.append(f"{found.partitions:,} partitions, {found.rows:,} rows{compared}: {faults}")
    if found.unproved:
        lines.append(
            f"{found.unproved:,} partitions of an earlier version have no checksum: a lost minute "
            "cannot be told from a gap of the exchange"
        )
    if repaired is not None and left is not None:
        done = _repaired_faults(found, repaired, left)
        lines += [f"repaired {fault.key}: {fault.what}" for fault in done]
        lines += [f"NOT REPAIRED {fault}" for fault in left.faults]
        lines += reason_lines("FAILED ", repaired.failed | left.failed)
    return "\n".join(lines)


def _is_sound(found: Findings, repaired: Repair | None, left: Findings | None) -> bool:
    """Return True if everything was checked, and no fault is left."""
    if found.failed or repaired is None or left is None:
        return not (found.failed or found.faults)
    return not (repaired.failed or left.failed or left.faults)


def _repaired_faults(found: Findings, repaired: Repair, left: Findings) -> list[Fault]:
    """Return the faults that are gone."""
    from klinefleet.workers.lake import keys

    still_faulty = {fault.key for fault in left.faults} | left.failed.keys()
    partitions = [(fault, keys.partition_of(fault.key)) for fault in found.faults]
    return [
        fault
        for fault, partition in partitions
        if partition and fault.key not in still_faulty and repaired.is_complete(partition.series)
    ]


def _say(text: str) -> None:
    click.echo(printable(text), err=True)
