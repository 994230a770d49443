from __future__ import annotations

from http import HTTPStatus

from deploy.simulator import books as books_module
from deploy.simulator.books import Books, seconds_until
from deploy.simulator.markets import Pool
from deploy.simulator.moments import DAY_MS, MINUTE_MS, utc_ms

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


def test_another_program_spends_evenly_from_the_same_minute() -> None:
    books = new_books(limit=1_000)
    books.set_foreign(HERE, Pool.FUTURES, 600, MINUTE)
    for tick in range(1, 301):
        books.spend_foreign(MINUTE + tick * 100)
    assert books.used(HERE, Pool.FUTURES, MINUTE) == 300
    books.count(HERE, Pool.FUTURES, 50, MINUTE + 30_000)
    (minute,) = books.minutes()
    assert (minute["weight"], minute["foreign_weight"], minute["calls"]) == (350, 300, 1)


def test_another_program_is_refused_too_and_earns_nobody_a_ban() -> None:
    books = new_books(limit=100)
    books.set_foreign(HERE, Pool.FUTURES, 600, MINUTE)
    for tick in range(1, 600):
        books.spend_foreign(MINUTE + tick * 100)
    (minute,) = books.minutes()
    assert minute["weight"] == 100
    assert minute["foreign_refused"] > 400
    assert books.banned_until(HERE, Pool.FUTURES, MINUTE + 59_999) is None


def test_another_program_can_be_told_to_stop() -> None:
    books = new_books(limit=1_000)
    books.set_foreign(HERE, Pool.SPOT, 600, MINUTE)
    books.set_foreign(HERE, Pool.SPOT, 0, MINUTE)
    books.spend_foreign(MINUTE + 1_000)
    assert books.minutes() == []


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
