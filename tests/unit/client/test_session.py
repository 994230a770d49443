"""What time a command takes it to be at the exchange."""

from __future__ import annotations

import logging

import pytest
from redis import Redis

from klinefleet.tasks.client.session import ask_again, exchange_ms
from klinefleet.workers.coordination.redis_clock import now_ms
from klinefleet.workers.domain.errors import (
    Firewalled,
    FleetError,
    OverWeight,
    Restricted,
    Unreachable,
)
from klinefleet.workers.domain.markets import Market, Pool
from klinefleet.workers.domain.redis_keys import WORKERS
from klinefleet.workers.limits.budget import Grant
from klinefleet.workers.limits.redis_budget import RedisBudget
from klinefleet.workers.support.retry import FIRST_QUESTION
from klinefleet.workers.support.stop_signal import StopSignal
from tests.unit.helpers.in_process_fleet import InProcessFleet

UM = Market.USD_M
AHEAD_MS = 300_000
#: A Date tells the second, and a command takes a moment.
ABOUT_MS = 10_000


class NoPauses(StopSignal):
    """Lets nobody wait."""

    def wait(self, seconds: float) -> bool:
        return False


def learn(redis: Redis, egress: str, ahead_ms: int, *, ago_ms: int = 0) -> None:
    """Have an address learn the exchange's clock from an answer of some time ago."""
    budget = RedisBudget(redis, Pool.FUTURES, egress)
    at_ms = now_ms(redis)
    budget.now_ms = at_ms - ago_ms
    grant = budget.take(1)
    assert isinstance(grant, Grant)
    budget.learn(
        grant, used=1, date_ms=(budget.now_ms + ahead_ms) // 1000 * 1000, served=True, rtt_ms=1
    )


def serve(redis: Redis, *egresses: str) -> None:
    lapses = now_ms(redis) + 60_000
    redis.zadd(WORKERS, {f"rest.futures@{egress}|host|1": lapses for egress in egresses})


def test_what_workers_at_another_address_have_learned_is_believed_before_redis(
    redis: Redis, one: InProcessFleet
) -> None:
    serve(redis, "elsewhere")
    learn(redis, "elsewhere", AHEAD_MS)
    assert exchange_ms(one.services, UM) == pytest.approx(now_ms(redis) + AHEAD_MS, abs=ABOUT_MS)
    assert "time" not in one.client.asked


@pytest.mark.parametrize("fresh", ["default", "near", "far"])
def test_of_several_addresses_the_one_that_heard_last_is_believed(
    redis: Redis, one: InProcessFleet, fresh: str
) -> None:
    serve(redis, "near", "far")
    for egress in ("default", "near", "far"):
        learn(
            redis,
            egress,
            AHEAD_MS if egress == fresh else 0,
            ago_ms=0 if egress == fresh else 600_000,
        )
    assert exchange_ms(one.services, UM) == pytest.approx(now_ms(redis) + AHEAD_MS, abs=ABOUT_MS)


def test_a_clock_that_is_days_off_is_asked_again_before_it_is_believed(
    redis: Redis, one: InProcessFleet
) -> None:
    """An answer of a proxy that keeps old ones, for instance."""
    learn(redis, "default", -10 * 86_400_000)
    assert exchange_ms(one.services, UM) == one.client.told_ms


def test_where_nobody_has_heard_the_exchange_is_asked(redis: Redis, one: InProcessFleet) -> None:
    assert exchange_ms(one.services, UM) == one.client.told_ms
    assert one.client.asked == ["time"]


def test_only_where_it_does_not_answer_redis_is_believed_and_that_is_said(
    redis: Redis,
    one: InProcessFleet,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one.client.told_ms = Unreachable("um /time: refused; nothing was kept")
    monkeypatch.setattr(one.services, "stop", NoPauses())
    with caplog.at_level(logging.WARNING):
        assert exchange_ms(one.services, UM) == pytest.approx(now_ms(redis), abs=ABOUT_MS)
    assert "um /time: refused" in caplog.text
    assert one.client.asked == ["time"] * FIRST_QUESTION.tries


def test_a_question_is_asked_again_and_its_first_refusal_is_told_once(
    one: InProcessFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.services, "stop", NoPauses())
    answers = iter([Firewalled("403"), Unreachable("reset"), 7])

    def question() -> int:
        answer = next(answers)
        if isinstance(answer, FleetError):
            raise answer
        return answer

    assert ask_again(one.services, question) == 7
    assert capsys.readouterr().err == "Firewalled: 403; asking again\n"


@pytest.mark.parametrize("error", [Restricted("451"), OverWeight("no room")])
def test_what_another_try_cannot_change_is_not_asked_again(
    one: InProcessFleet, error: FleetError
) -> None:
    asked = list[int]()

    def question() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        ask_again(one.services, question)
    assert len(asked) == 1
