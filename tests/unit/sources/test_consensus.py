"""Which row is kept where sources differ, and which time counts as covered."""

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
from klinefleet.workers.domain.series import SOURCES, Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.sources.consensus import (
    SourceRows,
    missing_in,
    resolve_conflicts,
    trusted_spans,
)
from tests.unit.helpers.klines import JANUARY, JANUARY_MS, MINUTES, frame, minutes, opens, times_of
from tests.unit.helpers.source_rows import BOTH, FILES, FORGOTTEN, NONE, TEN, funding, source_rows


def opens_of(verdict_rows: pl.DataFrame) -> list[float]:
    return verdict_rows["open"].to_list()


def test_events_have_no_calendar_and_so_lack_nothing() -> None:
    events = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
    assert missing_in(events, funding(Source.MONTHLY, 0.1)) == []
    assert trusted_spans(events, [funding(Source.MONTHLY, 0.1)], BOTH) == [JANUARY.span]


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
    versions = [source_rows(source, price=str(price)) for source, price in prices.items()]
    for several in (versions, versions[::-1]):
        verdict = resolve_conflicts(KLINES, several, NONE)
        assert opens_of(verdict.rows) == [stands] * 10
        assert verdict.conflicts.height == 10 * len(prices)
        assert set(verdict.conflicts.filter("stands")["open"]) == {stands}


@pytest.mark.parametrize("source", [Source.MONTHLY, Source.DAILY, Source.REST])
def test_what_only_the_lake_says_stands_against_nobody_and_is_told(source: Source) -> None:
    verdict = resolve_conflicts(
        KLINES, [source_rows(source)], frame(opens(minutes(0, 1)), price="7")
    )
    assert opens_of(verdict.rows) == [1.0] * 10
    assert verdict.conflicts.select("source", "stands", "open").rows() == [
        ("lake", False, 7.0),
        (str(source), True, 1.0),
    ]


def test_the_lake_has_no_vote_for_a_source_that_says_the_same() -> None:
    verdict = resolve_conflicts(
        KLINES,
        [source_rows(Source.MONTHLY), source_rows(Source.REST, price="2")],
        frame(opens(TEN), price="1"),
    )
    assert opens_of(verdict.rows) == [2.0] * 10


def test_held_rows_that_no_source_speaks_of_are_not_rows_of_the_verdict() -> None:
    verdict = resolve_conflicts(KLINES, [source_rows(Source.REST)], frame(opens(minutes(20, 30))))
    assert times_of(verdict.rows) == list(opens(TEN))
    assert verdict.conflicts.height == 0


def test_only_the_rows_that_differ_are_told_each_with_all_its_versions() -> None:
    verdict = resolve_conflicts(
        KLINES, [source_rows(Source.MONTHLY, odd=4), source_rows(Source.REST)], NONE
    )
    assert opens_of(verdict.rows) == [1.0] * 10
    assert times_of(verdict.conflicts) == [JANUARY_MS + 4 * MINUTE_MS] * 2
    assert verdict.conflicts.columns == ["source", "stands", *schema_of(KLINES).names()]


def test_a_row_that_only_one_source_has_is_kept() -> None:
    verdict = resolve_conflicts(
        KLINES,
        [source_rows(Source.MONTHLY, lacks=range(3, 6)), source_rows(Source.REST, minutes(4, 5))],
        NONE,
    )
    assert times_of(verdict.rows) == [
        *opens(minutes(0, 3)),
        *opens(minutes(4, 5)),
        *opens(minutes(6, 10)),
    ]
    assert verdict.conflicts.height == 0


def test_nothing_said_is_nothing_settled() -> None:
    for kind in KINDS.values():
        verdict = resolve_conflicts(kind, [], no_rows(kind))
        assert verdict.rows.schema == schema_of(kind)
        assert (verdict.rows.height, verdict.conflicts.height) == (0, 0)


def test_of_a_funding_event_each_source_tells_its_part_and_jitter_is_no_dispute() -> None:
    versions = [
        funding(Source.REST, 0.1, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING_RATE, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.1, 42.0)]
    assert verdict.conflicts.height == 0


def test_a_funding_rate_that_differs_is_settled_without_losing_the_other_parts() -> None:
    versions = [
        funding(Source.REST, 0.2, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING_RATE, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.2, 42.0)]
    assert verdict.conflicts.select("source", "stands").rows() == [
        ("monthly", False),
        ("rest", True),
    ]


def test_what_rest_answered_is_known_for_good_gaps_included() -> None:
    assert trusted_spans(MINUTES, [source_rows(Source.REST, lacks=range(3, 6))], BOTH) == [TEN]


def test_the_gap_of_a_file_is_known_only_once_somebody_else_was_asked() -> None:
    monthly = source_rows(Source.MONTHLY, lacks=range(3, 6))
    assert trusted_spans(MINUTES, [monthly], BOTH) == [minutes(0, 3), minutes(6, 10)]
    assert trusted_spans(MINUTES, [monthly], FILES) == [minutes(0, 3), minutes(6, 10)]
    assert trusted_spans(
        MINUTES, [monthly, SourceRows(Source.REST, minutes(3, 5), NONE)], BOTH
    ) == [
        minutes(0, 5),
        minutes(6, 10),
    ]
    assert trusted_spans(MINUTES, [monthly, source_rows(Source.DAILY)], BOTH) == [TEN]


def test_of_a_symbol_that_rest_has_forgotten_its_files_are_believed_as_they_are() -> None:
    assert trusted_spans(MINUTES, [source_rows(Source.MONTHLY, lacks=range(3, 6))], FORGOTTEN) == [
        TEN
    ]


def test_nothing_said_is_nothing_known() -> None:
    assert trusted_spans(MINUTES, [], BOTH) == []


said = st.dictionaries(
    st.sampled_from(list(SOURCES.values())),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
    min_size=1,
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
    cheap, dear = source_rows(Source.REST, price="1"), source_rows(Source.REST, price="2")
    said = [cheap, dear] if cheap_first else [dear, cheap]
    verdict = resolve_conflicts(KLINES, said, NONE)
    assert verdict.rows.equals(said[-1].rows)
    assert verdict.conflicts["stands"].sum() == len(opens(TEN))
    assert verdict.conflicts.filter("stands").select(NONE.columns).equals(said[-1].rows)
