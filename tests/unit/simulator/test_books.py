from __future__ import annotations

from http import HTTPStatus

from deploy.simulator import books as books_module
from deploy.simulator.books import Books, seconds_until
from deploy.simulator.markets import Pool
from deploy.simulator.moments import DAY_MS, MINUTE_MS, utc_ms
from deploy.simulator.neighbours import (
    Neighbour,
    at_random,
    burst,
    during,
    even,
    nobody,
    together,
)

MINUTE = utc_ms("2026-11-21 01:00")
HERE = "192.0.2.1"
OK, OVER, BANNED = HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT


def new_books(limit: int = 10, ban_ms: int = 120_000) -> Books:
    return Books({Pool.SPOT: limit, Pool.FUTURES: limit}, ban_ms, refusals_before_ban=3)


def ban_once(books: Books, now_ms: int) -> int:
    """Spend the minute, ignore every 429, and return the end of the ban."""
    books.count(HERE, Pool.SPOT, 10, now_ms)
    verdicts = [books.count(HERE, Pool.SPOT, 1, now_ms) for _ in range(4)]
    assert [verdict.status for verdict in verdicts] == [OVER, OVER, OVER, BANNED]
    return verdicts[-1].until_ms


def test_the_whole_limit_may_be_spent_and_not_one_more() -> None:
    books = new_books()
    assert books.count(HERE, Pool.SPOT, 10, MINUTE)[:2] == (OK, 10)
    assert books.count(HERE, Pool.SPOT, 1, MINUTE + 59_999)[:2] == (OVER, 11)


def test_a_new_calendar_minute_starts_from_nothing() -> None:
    books = new_books()
    books.count(HERE, Pool.SPOT, 10, MINUTE + 59_999)
    assert books.count(HERE, Pool.SPOT, 10, MINUTE + 60_000)[:2] == (OK, 10)


def test_addresses_and_pools_are_counted_apart() -> None:
    books = new_books()
    for address in (HERE, "192.0.2.2"):
        for pool in Pool:
            assert books.count(address, pool, 10, MINUTE).status is OK


def test_ignored_429s_earn_a_ban_that_outlives_the_minute() -> None:
    books = new_books()
    until_ms = ban_once(books, MINUTE)
    assert until_ms == MINUTE + 120_000
    assert books.count(HERE, Pool.SPOT, 1, until_ms - 1)[0::2] == (BANNED, until_ms)
    assert books.count(HERE, Pool.FUTURES, 1, until_ms - 1).status is OK
    assert books.count(HERE, Pool.SPOT, 1, until_ms).status is OK


def test_a_call_refused_during_a_ban_costs_nothing() -> None:
    books = new_books()
    books.ban(HERE, Pool.SPOT, MINUTE + 1_000)
    books.count(HERE, Pool.SPOT, 5, MINUTE)
    assert books.used(HERE, Pool.SPOT, MINUTE) == 0


def test_repeat_offenders_are_banned_for_longer_but_never_more_than_three_days() -> None:
    books, now_ms, lengths = new_books(), MINUTE, []
    for _ in range(14):
        until_ms = ban_once(books, now_ms)
        lengths.append(until_ms - now_ms)
        now_ms = until_ms + MINUTE_MS
    assert lengths[:3] == [120_000, 240_000, 480_000]
    assert lengths[-1] == 3 * DAY_MS


def test_a_few_429s_in_different_minutes_are_forgiven() -> None:
    books = new_books()
    for n in range(5):
        books.count(HERE, Pool.SPOT, 10, MINUTE + n * MINUTE_MS)
        verdicts = [books.count(HERE, Pool.SPOT, 1, MINUTE + n * MINUTE_MS) for _ in range(3)]
        assert {verdict.status for verdict in verdicts} == {OVER}


def beside(neighbour: Neighbour, limit: int = 1_000, began_ms: int = MINUTE) -> Books:
    """Books of an address on which another program has begun."""
    books = new_books(limit)
    books.set_foreign(HERE, Pool.FUTURES, neighbour, began_ms)
    return books


def weights_of_others(neighbour: Neighbour, minutes: int) -> list[int]:
    """What another program spends in each minute if nobody else is there."""
    books = beside(neighbour, limit=10_000)
    for minute in range(minutes):
        books.count(HERE, Pool.FUTURES, 1, MINUTE + (minute + 1) * MINUTE_MS - 1)
    return [minute["foreign_weight"] for minute in books.minutes()]


def test_another_program_spends_evenly_from_the_same_minute() -> None:
    books = beside(even(600))
    for tick in range(1, 301):
        books.spend_foreign(MINUTE + tick * 100)
    assert books.used(HERE, Pool.FUTURES, MINUTE) == 300
    books.count(HERE, Pool.FUTURES, 50, MINUTE + 30_000)
    (minute,) = books.minutes()
    assert (minute["weight"], minute["foreign_weight"], minute["calls"]) == (350, 300, 1)


def test_an_odd_weight_is_spent_evenly_to_the_last_unit() -> None:
    assert weights_of_others(even(601), 1) == [601]


def test_another_program_is_refused_too_and_earns_nobody_a_ban() -> None:
    books = beside(even(600), limit=100)
    for tick in range(1, 600):
        books.spend_foreign(MINUTE + tick * 100)
    (minute,) = books.minutes()
    assert minute["weight"] == 100
    assert minute["foreign_refused"] > 200
    assert books.banned_until(HERE, Pool.FUTURES, MINUTE + 59_999) is None


def test_another_program_can_be_told_to_stop() -> None:
    books = beside(even(600))
    books.set_foreign(HERE, Pool.FUTURES, nobody, MINUTE)
    books.spend_foreign(MINUTE + 1_000)
    assert books.minutes() == []


def test_another_program_that_is_told_to_stop_has_made_its_calls_until_then() -> None:
    books = beside(even(600))
    books.set_foreign(HERE, Pool.FUTURES, nobody, MINUTE + 1_000)
    assert books.used(HERE, Pool.FUTURES, MINUTE + 2_000) == 10


def test_a_burst_comes_at_its_second_of_each_minute() -> None:
    books = beside(burst(600, 0.3, 30))
    used = [
        books.used(HERE, Pool.FUTURES, MINUTE + ms) for ms in (300, 400, 30_000, 60_300, 60_400)
    ]
    assert used == [0, 600, 600, 0, 600]
    assert weights_of_others(burst(600, 0.3, 30), 2) == [1_200, 1_200]


def test_a_burst_that_is_over_before_the_program_begins_does_not_come_in_that_minute() -> None:
    books = beside(burst(600, 0.3), began_ms=MINUTE + 1_000)
    assert books.used(HERE, Pool.FUTURES, MINUTE + 59_999) == 0
    assert books.used(HERE, Pool.FUTURES, MINUTE + 61_000) == 600


def test_a_burst_can_leave_out_minutes() -> None:
    assert weights_of_others(burst(600, 45, every=3), 7) == [600, 0, 0, 600, 0, 0, 600]


def test_a_burst_passes_as_far_as_there_is_room_and_is_refused_call_by_call() -> None:
    books = beside(burst(605, 10), limit=1_000)
    books.count(HERE, Pool.FUTURES, 700, MINUTE)
    books.spend_foreign(MINUTE + 20_000)
    (minute,) = books.minutes()
    assert (minute["weight"], minute["foreign_weight"]) == (1_000, 300)
    assert minute["foreign_refused"] == 31


def test_calls_of_others_are_counted_before_a_call_of_ours_that_comes_after_them() -> None:
    books = beside(burst(600, 10))
    assert books.count(HERE, Pool.FUTURES, 401, MINUTE + 11_000)[:2] == (OVER, 1_001)


def test_a_call_of_others_belongs_to_its_own_minute_however_late_it_is_counted() -> None:
    books = beside(burst(10, 59.99))
    books.spend_foreign(MINUTE + 60_005)
    assert [(m["minute_ms"], m["weight"]) for m in books.minutes()] == [(MINUTE, 10)]


def test_a_burst_at_the_end_of_a_minute_goes_on_in_the_next() -> None:
    books = beside(burst(100, 59.995))
    books.spend_foreign(MINUTE + 60_100)
    assert [m["weight"] for m in books.minutes()] == [50, 50]


def test_calls_of_others_in_a_ban_are_refused() -> None:
    books = beside(burst(600, 10))
    books.ban(HERE, Pool.FUTURES, MINUTE + 20_000)
    books.spend_foreign(MINUTE + 30_000)
    (minute,) = books.minutes()
    assert (minute["weight"], minute["foreign_refused"]) == (0, 60)


def test_random_bursts_differ_by_minute_and_seed_and_can_be_repeated() -> None:
    weights = weights_of_others(at_random(1_200, seed=7), 10)
    assert len(set(weights)) > 5
    assert max(weights) <= 1_200
    assert weights_of_others(at_random(1_200, seed=7), 10) == weights
    assert weights_of_others(at_random(1_200, seed=8), 10) != weights


def test_another_program_can_begin_later_and_end() -> None:
    assert weights_of_others(during(even(600), 1, 3), 4) == [0, 600, 600, 0]


def test_several_programs_can_share_an_address() -> None:
    assert weights_of_others(together(even(300), burst(100, 30, 40)), 2) == [500, 500]


def test_minutes_do_not_pile_up_for_ever() -> None:
    books = new_books()
    for n in range(books_module.KEPT_MINUTES + 5):
        books.count(HERE, Pool.SPOT, 1, MINUTE + n * MINUTE_MS)
    kept = books.minutes()
    assert len(kept) == books_module.KEPT_MINUTES
    assert kept[0]["minute_ms"] == MINUTE + 5 * MINUTE_MS


def test_books_started_anew_know_neither_weight_nor_bans() -> None:
    books = new_books()
    ban_once(books, MINUTE)
    books.forget()
    assert books.minutes() == []
    assert ban_once(books, MINUTE) == MINUTE + 120_000


def test_retry_after_is_rounded_up_and_never_zero() -> None:
    assert [seconds_until(1_000 + wait, 1_000) for wait in (-5, 0, 1, 1_000, 1_001)] == [
        1,
        1,
        1,
        1,
        2,
    ]
