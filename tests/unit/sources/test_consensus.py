from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain import spans
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import Block, Series, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, MINUTE_MS, utc_ms
from klinefleet.workers.sources.consensus import (
    SourceRows,
    missing_in,
    resolve_conflicts,
    trusted_spans,
    windows_to_recheck,
)
from klinefleet.workers.sources.policy import Mode, Policy
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes, opens, times_of

BOTH, FILES = Policy(Mode.AUTO, 40.0), Policy(Mode.ARCHIVE, 40.0)
FORGOTTEN = Policy(Mode.AUTO, 40.0, is_listed=False)
NONE = no_rows(KLINES)
TEN = minutes(0, 10)


def version(
    source: Source,
    span: Span = TEN,
    *,
    price: str = "1",
    lacks: range = range(0),
    odd: int | None = None,
) -> SourceRows:
    """What a source says of a span: without the minutes it `lacks`, and minute `odd` at another
    price.
    """
    times = [at for n, at in enumerate(opens(span)) if n not in lacks]
    rows = frame(times, price=price)
    if odd is not None:
        at = pl.col("open_time").dt.timestamp("ms") == span.start_ms + odd * MINUTE_MS
        rows = rows.with_columns(open=pl.when(at).then(pl.lit(9.0)).otherwise("open"))
    return SourceRows(source, span, rows)


def asked(
    versions: list[SourceRows],
    policy: Policy = BOTH,
    held: pl.DataFrame = NONE,
    block: Block = JANUARY,
) -> list[Window]:
    return windows_to_recheck(block, versions, held, policy)


def series(interval: Interval) -> Series:
    return Series(Market.USD_M, KLINES, interval, "BTCUSDT")


def funding(
    source: Source,
    rate: float,
    *,
    jitter_ms: int = 0,
    hours: int | None = None,
    mark: float | None = None,
) -> SourceRows:
    event = [[JANUARY_MS + jitter_ms, hours, rate, mark]]
    wire = {
        "calc_time": pl.Int64(),
        "funding_interval_hours": pl.Int64(),
        "rate": pl.Float64(),
        "mark": pl.Float64(),
    }
    rows = pl.DataFrame(event, schema=wire, orient="row").rename(
        {"rate": "last_funding_rate", "mark": "mark_price"}
    )
    return SourceRows(source, JANUARY.span, rows.cast(dict(schema_of(FUNDING_RATE))))  # type: ignore[arg-type]


def opens_of(verdict_rows: pl.DataFrame) -> list[float]:
    return verdict_rows["open"].to_list()


def test_a_source_that_tells_every_minute_lacks_none() -> None:
    assert missing_in(MINUTES, version(Source.MONTHLY)) == []
    assert missing_in(MINUTES, version(Source.MONTHLY, Span(TEN.start_ms, TEN.start_ms))) == []


def test_minutes_that_a_source_lacks_are_told_in_runs_and_to_its_edges() -> None:
    lacking = SourceRows(Source.DAILY, TEN, frame([*opens(minutes(2, 4)), *opens(minutes(5, 9))]))
    assert missing_in(MINUTES, lacking) == [minutes(0, 2), minutes(4, 5), minutes(9, 10)]
    assert missing_in(MINUTES, SourceRows(Source.DAILY, TEN, NONE)) == [TEN]


def test_a_row_that_opened_off_its_minute_stands_for_that_minute() -> None:
    late = [at + 137 if n == 4 else at for n, at in enumerate(opens(TEN))]
    assert missing_in(MINUTES, SourceRows(Source.DAILY, TEN, frame(late))) == []


def test_a_span_that_ends_within_a_candle_lacks_nothing_beyond_its_end() -> None:
    span = Span(TEN.start_ms, TEN.end_ms - 30_000)
    assert missing_in(MINUTES, SourceRows(Source.DAILY, span, NONE)) == [span]


def test_a_span_in_which_no_candle_opens_lacks_none() -> None:
    sunday = Span(utc_ms(2024, 3, 2), utc_ms(2024, 3, 4))
    assert missing_in(series(Interval.W1), SourceRows(Source.MONTHLY, sunday, NONE)) == []


@pytest.mark.parametrize(
    ("interval", "gone", "until"),
    [
        (Interval.MO1, (2024, 2, 1), (2024, 3, 1)),
        (Interval.W1, (2024, 2, 5), (2024, 2, 12)),
        (Interval.D3, (2024, 2, 2), (2024, 2, 5)),
        (Interval.D1, (2024, 2, 29), (2024, 3, 1)),
    ],
)
def test_a_coarse_candle_that_is_gone_is_missed_on_its_own_calendar(
    interval: Interval, gone: tuple[int, int, int], until: tuple[int, int, int]
) -> None:
    year, lost = Span(utc_ms(2024), utc_ms(2025)), Span(utc_ms(*gone), utc_ms(*until))
    assert interval.floor(lost.start_ms) == lost.start_ms
    first = interval.ceil(year.start_ms)
    times = [interval.advance(first, n) for n in range(interval.opens(year.start_ms, year.end_ms))]
    rows = frame([at for at in times if at != lost.start_ms])
    assert missing_in(series(interval), SourceRows(Source.MONTHLY, year, rows)) == [lost]


def test_events_have_no_calendar_and_so_lack_nothing() -> None:
    events = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
    assert missing_in(events, funding(Source.MONTHLY, 0.1)) == []
    assert trusted_spans(events, [funding(Source.MONTHLY, 0.1)], BOTH) == [JANUARY.span]


def test_sources_that_agree_leave_no_doubt() -> None:
    assert asked([version(Source.MONTHLY)]) == []
    assert (
        asked(
            [version(Source.MONTHLY), version(Source.DAILY), version(Source.REST)],
            held=frame(opens(TEN), price="1"),
        )
        == []
    )


def test_a_gap_of_a_file_is_asked_of_rest_and_of_nobody_else() -> None:
    assert asked([version(Source.MONTHLY, lacks=range(3, 6))]) == [Window(JANUARY, minutes(3, 6))]


@pytest.mark.parametrize("policy", [FILES, FORGOTTEN])
def test_nothing_is_asked_of_rest_where_it_may_not_be_asked(policy: Policy) -> None:
    assert (
        asked([version(Source.MONTHLY, lacks=range(3, 6)), version(Source.DAILY, odd=1)], policy)
        == []
    )


def test_a_gap_that_rest_has_confirmed_is_not_asked_for_again() -> None:
    rest = SourceRows(Source.REST, minutes(3, 6), NONE)
    assert asked([version(Source.MONTHLY, lacks=range(3, 6)), rest]) == []
    assert asked([version(Source.MONTHLY, lacks=range(2, 6)), rest]) == [
        Window(JANUARY, minutes(2, 3))
    ]


def test_a_gap_of_rest_is_the_exchanges_own_and_no_doubt() -> None:
    assert asked([version(Source.REST, lacks=range(3, 6))]) == []
    assert asked([version(Source.REST, odd=1)], held=frame(opens(TEN), price="1")) == []


def test_gaps_near_one_another_are_one_call_and_far_ones_are_not() -> None:
    near = version(Source.MONTHLY, minutes(0, 400), lacks=range(10, 300, 20))
    assert [w.span for w in asked([near])] == [minutes(10, 291)]
    far = SourceRows(Source.MONTHLY, minutes(0, 2000), frame([*opens(minutes(1, 1999))]))
    assert [w.span for w in asked([far])] == [minutes(0, 1), minutes(1999, 2000)]


def test_rows_on_which_files_differ_are_asked_of_rest() -> None:
    assert asked([version(Source.MONTHLY), version(Source.DAILY, odd=4)]) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_a_file_that_would_change_what_is_held_is_not_believed_before_rest_is_asked() -> None:
    assert asked([version(Source.MONTHLY, odd=4)], held=frame(opens(TEN), price="1")) == [
        Window(JANUARY, minutes(4, 5))
    ]


def test_where_rest_and_a_monthly_file_differ_the_days_are_asked_for_their_vote_once() -> None:
    versions = [version(Source.MONTHLY, odd=4), version(Source.REST)]
    day = Span(JANUARY_MS, JANUARY_MS + DAY_MS)
    assert asked(versions) == [Window(JANUARY, day, Source.DAILY)]
    assert asked([*versions, version(Source.DAILY, day)]) == []


def test_rest_is_asked_before_any_daily_file_is() -> None:
    versions = [
        version(Source.MONTHLY, minutes(0, 20), odd=4, lacks=range(15, 16)),
        version(Source.REST),
    ]
    assert asked(versions) == [Window(JANUARY, minutes(15, 16))]


def test_no_vote_is_asked_for_where_the_archive_has_no_daily_files() -> None:
    weekly = Block(series(Interval.W1), "2024")
    monday = Span(utc_ms(2024, 1, 8), utc_ms(2024, 1, 15))
    versions = [
        SourceRows(source, monday, frame([monday.start_ms], price=str(n)))
        for n, source in enumerate((Source.MONTHLY, Source.REST))
    ]
    assert asked(versions, block=weekly) == []


def test_a_dispute_with_what_is_held_alone_costs_no_daily_file() -> None:
    versions = [version(Source.MONTHLY), version(Source.REST)]
    assert asked(versions, held=frame(opens(TEN), price="7")) == []


@pytest.mark.parametrize(
    ("prices", "stands"),
    [
        ({Source.MONTHLY: 1, Source.REST: 2}, 2),
        ({Source.MONTHLY: 1, Source.DAILY: 2}, 2),
        ({Source.DAILY: 1, Source.REST: 2}, 2),
        ({Source.MONTHLY: 1, Source.DAILY: 1, Source.REST: 2}, 1),
        ({Source.MONTHLY: 1, Source.DAILY: 2, Source.REST: 2}, 2),
        ({Source.MONTHLY: 2, Source.DAILY: 1, Source.REST: 2}, 2),
        ({Source.MONTHLY: 1, Source.DAILY: 2, Source.REST: 3}, 3),
    ],
)
def test_most_sources_win_then_rest_then_the_daily_file_in_whatever_order_they_came(
    prices: dict[Source, int], stands: int
) -> None:
    versions = [version(source, price=str(price)) for source, price in prices.items()]
    for several in (versions, versions[::-1]):
        verdict = resolve_conflicts(KLINES, several, NONE)
        assert opens_of(verdict.rows) == [stands] * 10
        assert verdict.disputed.height == 10 * len(prices)
        assert set(verdict.disputed.filter("stands")["open"]) == {stands}


@pytest.mark.parametrize("source", [Source.MONTHLY, Source.DAILY, Source.REST])
def test_what_only_the_lake_says_stands_against_nobody_and_is_told(source: Source) -> None:
    verdict = resolve_conflicts(KLINES, [version(source)], frame(opens(minutes(0, 1)), price="7"))
    assert opens_of(verdict.rows) == [1.0] * 10
    assert verdict.disputed.select("source", "stands", "open").rows() == [
        ("lake", False, 7.0),
        (str(source), True, 1.0),
    ]


def test_the_lake_has_no_vote_for_a_source_that_says_the_same() -> None:
    verdict = resolve_conflicts(
        KLINES,
        [version(Source.MONTHLY), version(Source.REST, price="2")],
        frame(opens(TEN), price="1"),
    )
    assert opens_of(verdict.rows) == [2.0] * 10


def test_held_rows_that_no_source_speaks_of_are_not_rows_of_the_verdict() -> None:
    verdict = resolve_conflicts(KLINES, [version(Source.REST)], frame(opens(minutes(20, 30))))
    assert times_of(verdict.rows) == list(opens(TEN))
    assert verdict.disputed.height == 0


def test_only_the_rows_that_differ_are_told_each_with_all_its_versions() -> None:
    verdict = resolve_conflicts(
        KLINES, [version(Source.MONTHLY, odd=4), version(Source.REST)], NONE
    )
    assert opens_of(verdict.rows) == [1.0] * 10
    assert times_of(verdict.disputed) == [JANUARY_MS + 4 * MINUTE_MS] * 2
    assert verdict.disputed.columns == ["source", "stands", *schema_of(KLINES).names()]


def test_a_row_that_only_one_source_has_is_kept() -> None:
    verdict = resolve_conflicts(
        KLINES,
        [version(Source.MONTHLY, lacks=range(3, 6)), version(Source.REST, minutes(4, 5))],
        NONE,
    )
    assert times_of(verdict.rows) == [
        *opens(minutes(0, 3)),
        *opens(minutes(4, 5)),
        *opens(minutes(6, 10)),
    ]
    assert verdict.disputed.height == 0


def test_nothing_said_is_nothing_settled() -> None:
    for kind in KINDS.values():
        verdict = resolve_conflicts(kind, [], no_rows(kind))
        assert verdict.rows.schema == schema_of(kind)
        assert (verdict.rows.height, verdict.disputed.height) == (0, 0)


def test_of_a_funding_event_each_source_tells_its_part_and_jitter_is_no_dispute() -> None:
    versions = [
        funding(Source.REST, 0.1, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING_RATE, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.1, 42.0)]
    assert verdict.disputed.height == 0


def test_a_funding_rate_that_differs_is_settled_without_losing_the_other_parts() -> None:
    versions = [
        funding(Source.REST, 0.2, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING_RATE, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.2, 42.0)]
    assert verdict.disputed.select("source", "stands").rows() == [
        ("monthly", False),
        ("rest", True),
    ]


def test_what_rest_answered_is_known_for_good_gaps_included() -> None:
    assert trusted_spans(MINUTES, [version(Source.REST, lacks=range(3, 6))], BOTH) == [TEN]


def test_the_gap_of_a_file_is_known_only_once_somebody_else_was_asked() -> None:
    monthly = version(Source.MONTHLY, lacks=range(3, 6))
    assert trusted_spans(MINUTES, [monthly], BOTH) == [minutes(0, 3), minutes(6, 10)]
    assert trusted_spans(MINUTES, [monthly], FILES) == [minutes(0, 3), minutes(6, 10)]
    assert trusted_spans(
        MINUTES, [monthly, SourceRows(Source.REST, minutes(3, 5), NONE)], BOTH
    ) == [
        minutes(0, 5),
        minutes(6, 10),
    ]
    assert trusted_spans(MINUTES, [monthly, version(Source.DAILY)], BOTH) == [TEN]


def test_of_a_symbol_that_rest_has_forgotten_its_files_are_believed_as_they_are() -> None:
    assert trusted_spans(MINUTES, [version(Source.MONTHLY, lacks=range(3, 6))], FORGOTTEN) == [TEN]


def test_nothing_said_is_nothing_known() -> None:
    assert trusted_spans(MINUTES, [], BOTH) == []


said = st.dictionaries(
    st.sampled_from(Source), st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1
)


@settings(max_examples=80, deadline=None)
@given(said)
def test_any_mixture_of_answers_comes_to_the_same_verdict_as_counting_by_hand(
    said: dict[Source, list[int]],
) -> None:
    """Price 0 is a row that a source lacks."""
    versions = [
        SourceRows(
            source,
            minutes(0, 6),
            pl.concat(
                [
                    NONE,
                    *(
                        frame(opens(minutes(n, n + 1)), price=str(p))
                        for n, p in enumerate(prices)
                        if p
                    ),
                ]
            ),
        )
        for source, prices in said.items()
    ]
    order = [Source.REST, Source.DAILY, Source.MONTHLY]
    wanted = []
    for n in range(6):
        votes = [said[source][n] for source in order if source in said and said[source][n]]
        if votes:
            wanted.append((JANUARY_MS + n * MINUTE_MS, float(max(votes, key=votes.count))))
    verdict = resolve_conflicts(KLINES, versions, NONE)
    assert list(zip(times_of(verdict.rows), opens_of(verdict.rows), strict=True)) == wanted
    known = trusted_spans(MINUTES, versions, BOTH)
    unchecked = (
        []
        if Source.REST in said
        else spans.gaps([Span(at, at + MINUTE_MS) for at, _ in wanted], minutes(0, 6))
    )
    assert known == spans.gaps(unchecked, minutes(0, 6))


@pytest.mark.parametrize("cheap_first", [True, False])
def test_of_two_things_that_one_source_says_only_the_later_stands(cheap_first: bool) -> None:
    cheap, dear = version(Source.REST, price="1"), version(Source.REST, price="2")
    said = [cheap, dear] if cheap_first else [dear, cheap]
    verdict = resolve_conflicts(KLINES, said, NONE)
    assert verdict.rows.equals(said[-1].rows)
    assert verdict.disputed["stands"].sum() == len(opens(TEN))
    assert verdict.disputed.filter("stands").select(NONE.columns).equals(said[-1].rows)


def test_a_row_off_the_calendar_does_not_hide_a_gap() -> None:
    span = Span(JANUARY_MS + 30_000, JANUARY_MS + 10 * MINUTE_MS)
    times = [JANUARY_MS + 45_000, *(JANUARY_MS + n * MINUTE_MS for n in range(1, 10) if n != 5)]
    gone = Span(JANUARY_MS + 5 * MINUTE_MS, JANUARY_MS + 6 * MINUTE_MS)
    assert missing_in(MINUTES, SourceRows(Source.MONTHLY, span, frame(times))) == [gone]
