"""Which row is kept where sources differ, and which rows are odd though all agree."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.schema import no_rows, schema_of
from klinefleet.workers.domain.series import SOURCES, Series, Source
from klinefleet.workers.domain.timestamps import MINUTE_MS
from klinefleet.workers.lake.footers.oddities import Oddity
from klinefleet.workers.sources.consensus import (
    SourceRows,
    resolve_conflicts,
)
from tests.unit.helpers.klines import JANUARY_MS, MINUTES, frame, minutes, opens, times_of
from tests.unit.helpers.source_rows import NONE, TEN, funding, source_rows

FUNDING = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")


def opens_of(verdict_rows: pl.DataFrame) -> list[float]:
    return verdict_rows["open"].to_list()


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
        verdict = resolve_conflicts(MINUTES, several, NONE)
        assert opens_of(verdict.rows) == [stands] * 10
        assert verdict.conflicts.height == 10 * len(prices)
        assert set(verdict.conflicts.filter("stands")["open"]) == {stands}


@pytest.mark.parametrize("source", [Source.MONTHLY, Source.DAILY, Source.REST])
def test_what_only_the_lake_says_stands_against_nobody_and_is_told(source: Source) -> None:
    verdict = resolve_conflicts(
        MINUTES, [source_rows(source)], frame(opens(minutes(0, 1)), price="7")
    )
    assert opens_of(verdict.rows) == [1.0] * 10
    assert verdict.conflicts.select("source", "stands", "open").rows() == [
        ("lake", False, 7.0),
        (str(source), True, 1.0),
    ]


def test_the_lake_has_no_vote_for_a_source_that_says_the_same() -> None:
    verdict = resolve_conflicts(
        MINUTES,
        [source_rows(Source.MONTHLY), source_rows(Source.REST, price="2")],
        frame(opens(TEN), price="1"),
    )
    assert opens_of(verdict.rows) == [2.0] * 10


def test_held_rows_that_no_source_speaks_of_are_not_rows_of_the_verdict() -> None:
    verdict = resolve_conflicts(MINUTES, [source_rows(Source.REST)], frame(opens(minutes(20, 30))))
    assert times_of(verdict.rows) == list(opens(TEN))
    assert verdict.conflicts.height == 0


def test_only_the_rows_that_differ_are_told_each_with_all_its_versions() -> None:
    verdict = resolve_conflicts(
        MINUTES, [source_rows(Source.MONTHLY, odd=4), source_rows(Source.REST)], NONE
    )
    assert opens_of(verdict.rows) == [1.0] * 10
    assert times_of(verdict.conflicts) == [JANUARY_MS + 4 * MINUTE_MS] * 2
    assert verdict.conflicts.columns == ["source", "stands", *schema_of(KLINES).names()]


def test_a_row_that_only_one_source_has_is_kept() -> None:
    verdict = resolve_conflicts(
        MINUTES,
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
        series = replace(MINUTES, kind=kind)
        verdict = resolve_conflicts(series, [], no_rows(kind))
        assert verdict.rows.schema == schema_of(kind)
        assert (verdict.rows.height, verdict.conflicts.height) == (0, 0)


def test_of_a_funding_event_each_source_tells_its_part_and_jitter_is_no_dispute() -> None:
    versions = [
        funding(Source.REST, 0.1, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.1, 42.0)]
    assert verdict.conflicts.height == 0


def test_a_funding_rate_that_differs_is_settled_without_losing_the_other_parts() -> None:
    versions = [
        funding(Source.REST, 0.2, jitter_ms=3, mark=42.0),
        funding(Source.MONTHLY, 0.1, hours=8),
    ]
    verdict = resolve_conflicts(FUNDING, versions, no_rows(FUNDING_RATE))
    assert verdict.rows.select(
        "funding_interval_hours", "last_funding_rate", "mark_price"
    ).rows() == [(8, 0.2, 42.0)]
    assert verdict.conflicts.select("source", "stands").rows() == [
        ("monthly", False),
        ("rest", True),
    ]


def faulty(source: Source, minute: int, *, high: float) -> SourceRows:
    """Return ten rows of a source, one of them with a high below its open."""
    version = source_rows(source, price="5")
    at = pl.col("open_time").dt.timestamp("ms") == TEN.start_ms + minute * MINUTE_MS
    rows = version.rows.with_columns(high=pl.when(at).then(pl.lit(high)).otherwise("high"))
    return SourceRows(source, TEN, rows)


def test_a_sound_row_wins_over_a_faulty_one_whatever_its_source_and_their_votes() -> None:
    sound = source_rows(Source.MONTHLY, price="5")
    wrong = [faulty(Source.REST, 4, high=1.0), faulty(Source.DAILY, 4, high=1.0)]
    for several in ([sound, *wrong], [*wrong, sound]):
        verdict = resolve_conflicts(MINUTES, several, NONE)
        assert verdict.rows.equals(sound.rows)
        assert verdict.oddities == []
        assert verdict.conflicts.filter("stands")["source"].to_list() == ["monthly"]


def test_a_sound_row_of_the_lake_wins_over_a_faulty_one() -> None:
    held = source_rows(Source.REST, price="5").rows
    verdict = resolve_conflicts(MINUTES, [faulty(Source.REST, 4, high=1.0)], held)
    assert verdict.rows.equals(held)


def test_a_faulty_row_that_every_source_has_is_kept_and_told_with_those_that_have_it() -> None:
    versions = [faulty(source, 4, high=1.0) for source in (Source.REST, Source.MONTHLY)]
    lacking = source_rows(Source.DAILY, price="5", lacks=range(3, 6))
    verdict = resolve_conflicts(MINUTES, [*versions, lacking], NONE)
    assert verdict.rows.equals(versions[0].rows)
    odd = Oddity(minutes(4, 5), "high or low out of bounds", ("monthly", "rest"))
    assert verdict.oddities == [odd]


def test_neighbouring_odd_rows_are_told_as_one_stretch() -> None:
    rows = frame(opens(TEN)).with_columns(volume=pl.lit(-1.0))
    (odd, *others) = resolve_conflicts(MINUTES, [SourceRows(Source.REST, TEN, rows)], NONE).oddities
    assert (odd.span, odd.what, odd.sources) == (TEN, "negative volume or count", ("rest",))
    assert [one.what for one in others] == ["taker volume over volume"] * bool(others)


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
    verdict = resolve_conflicts(MINUTES, versions, NONE)
    assert list(zip(times_of(verdict.rows), opens_of(verdict.rows), strict=True)) == wanted


@pytest.mark.parametrize("cheap_first", [True, False])
def test_of_two_things_that_one_source_says_only_the_later_stands(cheap_first: bool) -> None:
    cheap, dear = source_rows(Source.REST, price="1"), source_rows(Source.REST, price="2")
    said = [cheap, dear] if cheap_first else [dear, cheap]
    verdict = resolve_conflicts(MINUTES, said, NONE)
    assert verdict.rows.equals(said[-1].rows)
    assert verdict.conflicts["stands"].sum() == len(opens(TEN))
    assert verdict.conflicts.filter("stands").select(NONE.columns).equals(said[-1].rows)
