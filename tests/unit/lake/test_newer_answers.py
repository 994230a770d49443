"""Of two answers for one minute the one asked for later stands, whoever comes last."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.schema import no_rows
from klinefleet.workers.domain.series import Source
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.partition_codec import decode
from klinefleet.workers.lake.partitions import Partitions
from klinefleet.workers.sources.consensus import SourceRows, resolve_conflicts
from tests.unit.helpers.klines import JANUARY, MINUTES, frame, minutes, opens
from tests.unit.helpers.partitions import KEY, VersionedStore

#: An answer: the first minute, how many, when it was asked for, its price.
Said = tuple[int, int, int, int]


def revise(files: VersionedStore, said: Said, *, revises: bool = True) -> None:
    start, length, asked_ms, price = said
    span = minutes(start, start + length)
    rows = frame(opens(span), price=str(price))
    answer = Answer(span, Source.REST, asked_ms)
    Partitions(files).merge(JANUARY, rows, [answer], revises=revises)


def prices(files: VersionedStore) -> dict[int, float]:
    body = files.read(KEY)
    rows = decode(body) if body else no_rows(KLINES)
    times = rows["open_time"].dt.timestamp("ms")
    return dict(zip(times.to_list(), rows["open"].to_list(), strict=True))


@pytest.mark.parametrize("asked_ms", [1, 5, 9])
def test_a_run_that_does_not_revise_never_replaces_a_held_row(asked_ms: int) -> None:
    files = VersionedStore()
    revise(files, (0, 10, 5, 1))
    revise(files, (0, 12, asked_ms, 2), revises=False)
    assert list(prices(files).values()) == [1.0] * 10 + [2.0] * 2


@pytest.mark.parametrize(("asked_ms", "stands"), [(4, 1.0), (5, 1.0), (6, 2.0)])
def test_a_revising_answer_replaces_only_what_was_asked_for_before(
    asked_ms: int, stands: float
) -> None:
    files = VersionedStore()
    revise(files, (0, 10, 5, 1))
    revise(files, (5, 10, asked_ms, 2))
    assert list(prices(files).values()) == [1.0] * 5 + [stands] * 5 + [2.0] * 5


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(1, 100), st.integers(1, 9)),
        max_size=6,
        unique_by=lambda said: said[2],
    ),
    st.randoms(use_true_random=False),
)
def test_answers_that_come_in_any_order_leave_the_same_rows(
    said: list[Said], random: object
) -> None:
    shuffled = list(said)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    wanted: dict[int, float] = {}
    for start, length, _, price in sorted(said, key=lambda one: one[2]):
        wanted |= dict.fromkeys(opens(minutes(start, start + length)), float(price))
    files = VersionedStore()
    for one in shuffled:
        revise(files, one)
    assert prices(files) == dict(sorted(wanted.items()))


def test_a_late_answer_still_brings_the_rows_that_nobody_else_had() -> None:
    files = VersionedStore()
    late = frame([*opens(minutes(0, 3)), *opens(minutes(4, 10))], price="2")
    revise(files, (0, 2, 9, 1))
    Partitions(files).merge(JANUARY, late, [Answer(minutes(0, 10), Source.REST, 5)], revises=True)
    assert list(prices(files).values()) == [1.0] * 2 + [2.0] * 7


def version(source: Source, price: str, asked_ms: int) -> SourceRows:
    span = minutes(0, 5)
    return SourceRows(source, span, frame(opens(span), price=price), asked_ms)


def test_of_two_editions_of_one_file_the_later_counts_and_the_earlier_has_no_vote() -> None:
    editions = [
        version(Source.MONTHLY, "1", 10),
        version(Source.MONTHLY, "2", 20),
        version(Source.DAILY, "1", 5),
        version(Source.DAILY, "2", 30),
    ]
    for order in permutations(editions):
        rows = resolve_conflicts(MINUTES, order, no_rows(KLINES)).rows
        assert rows["open"].to_list() == [2.0] * 5


def test_the_later_of_two_answers_of_rest_stands_whatever_their_names_sort_like() -> None:
    for order in permutations([version(Source.REST, "1", 30), version(Source.REST, "2", 20)]):
        rows = resolve_conflicts(MINUTES, order, no_rows(KLINES)).rows
        assert rows["open"].to_list() == [1.0] * 5


def test_rows_that_only_the_earlier_of_two_answers_has_are_kept() -> None:
    short = SourceRows(Source.REST, minutes(0, 5), frame(opens(minutes(0, 2)), price="2"), 20)
    whole = version(Source.REST, "1", 10)
    for order in ([short, whole], [whole, short]):
        rows = resolve_conflicts(MINUTES, order, no_rows(KLINES)).rows
        assert rows["open"].to_list() == [2.0] * 2 + [1.0] * 3
