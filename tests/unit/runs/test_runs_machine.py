"""Everything that may happen to two runs, in any order, against a model.

Every run must come to its end afterwards. Planners and compactions are succeeded while they go on,
messages come twice, runs are cancelled, and keys of Redis lapse. A kill between two commands is the
second one not following.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.runs.partitions import Refetch
from klinefleet.tasks.runs.progress import Phase, State
from klinefleet.tasks.runs.store import Runs
from klinefleet.workers.domain.errors import LeaseLost
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.redis_keys import run_key, window_field
from klinefleet.workers.domain.series import Partition
from klinefleet.workers.domain.timestamps import utc_ms
from tests.unit.helpers.run_model import PARTITIONS, WINDOWS_OF, ModelPartition, ModelRun

MAX_RUNS = 2

partitions = st.sampled_from([PARTITIONS[0], *PARTITIONS])
numbers = st.integers(0, 7)


class RunsMachine(RuleBasedStateMachine):
    """Two runs of the same two partitions."""

    redis: Redis

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushdb()
        self.runs = Runs(self.redis)
        self.models: dict[str, ModelRun] = {}
        self.ended: list[str] = []
        self.claims: dict[Partition, str] = {}
        self.planners: list[tuple[str, int, Runs]] = []
        self.compactions: list[tuple[str, Partition, int]] = []
        self.fences = 0
        self.may_lapse = self.has_lapsed = False

    @initialize(may_lapse=st.sampled_from([False, False, True]))
    def begin(self, may_lapse: bool) -> None:
        self.may_lapse = may_lapse
        self.create()
        self.a_planner_takes_the_lead(0)

    @precondition(lambda self: len(self.models) < MAX_RUNS)
    @rule()
    def create(self) -> None:
        asked = Request(
            Market.USD_M, KLINES, Interval.M1, ("BTCUSDT",), utc_ms(2024), utc_ms(2024, 4)
        )
        self.models[self.runs.create(asked)] = ModelRun()

    @precondition(lambda self: self.models)
    @rule(which=numbers)
    def a_planner_takes_the_lead(self, which: int) -> None:
        run = self._run(which)
        self.fences += 1
        leads = self.runs.take_lead(run, self.fences)
        if leads:
            self.planners.append((run, self.fences, leads))
            self.models[run].leader = self.fences

    @precondition(lambda self: self.planners)
    @rule(which=numbers, partition=partitions)
    def a_planner_claims(self, which: int, partition: Partition) -> None:
        run, fence, runs = self._planner(which)
        got = self._as_led(run, fence, lambda: runs.partitions.claim(run, partition))
        if got is None or self.has_lapsed:
            return
        model, owner = self.models[run], self.claims.get(partition)
        if owner not in (None, run):
            model.deferred.add(partition)
            assert got is False
            return
        self.claims[partition] = run
        model.deferred.discard(partition)
        assert got == (
            model.partitions.setdefault(partition, ModelPartition()).phase is Phase.CLAIMED
        )

    @precondition(lambda self: self.planners)
    @rule(which=numbers, partition=partitions, many=st.integers(0, 2))
    def a_planner_opens(self, which: int, partition: Partition, many: int) -> None:
        run, fence, runs = self._planner(which)
        windows = WINDOWS_OF[partition][:many]
        got = self._as_led(run, fence, lambda: runs.partitions.open(run, partition, windows) > 0)
        if got is None or self.has_lapsed:
            return
        opened = self.models[run].partitions.get(partition)
        assert got == (opened is not None and opened.phase is Phase.CLAIMED)
        if opened and got:
            opened.phase, opened.left = (
                Phase.FETCHING if windows else Phase.COMPACTING,
                set(windows),
            )
            self.models[run].counts += Counter(windows=many, partitions=1)

    @precondition(lambda self: self.planners)
    @rule(which=numbers, partition=partitions)
    def a_planner_releases(self, which: int, partition: Partition) -> None:
        run, fence, runs = self._planner(which)
        if (
            self._as_led(
                run, fence, lambda: runs.partitions.release_unneeded(run, partition) is None
            )
            is None
            or self.has_lapsed
        ):
            return
        opened = self.models[run].partitions.get(partition)
        if opened and opened.phase is Phase.CLAIMED:
            del self.models[run].partitions[partition], self.claims[partition]
            self.models[run].counts += Counter(partitions_held=1)

    @precondition(lambda self: any(model.partitions for model in self.models.values()))
    @rule(
        which=numbers,
        partition=partitions,
        n=st.integers(0, 1),
        replaced=st.sampled_from([False, False, True]),
    )
    def a_window_is_in(self, which: int, partition: Partition, n: int, replaced: bool) -> None:
        """By whom and how often ever; another source may have to answer in its place."""
        run, window = self._any_run(which), WINDOWS_OF[partition][n]
        instead = [WINDOWS_OF[partition][1 - n]] if replaced else []
        got = self.runs.partitions.finish_window(
            run, window, {"windows_done": 1}, replacements=instead
        )
        if self.has_lapsed:
            return
        opened = self.models[run].partitions.get(partition) if run in self.models else None
        if opened is None or window not in opened.left:
            assert not got.is_counted
            assert not got.is_last
            return
        assert got.is_counted
        opened.left.discard(window)
        self.models[run].counts += Counter(windows_done=1, windows=len(set(instead) - opened.left))
        opened.left |= set(instead)
        if not opened.left:
            opened.phase = Phase.COMPACTING
        assert got.is_last == (not opened.left)

    @precondition(lambda self: any(model.partitions for model in self.models.values()))
    @rule(which=numbers, partition=partitions)
    def a_compaction_begins(self, which: int, partition: Partition) -> None:
        run = self._any_run(which)
        self.fences += 1
        got = self.runs.partitions.begin_compaction(run, partition, self.fences)
        if got:
            self.compactions.append((run, partition, self.fences))
        if self.has_lapsed:
            return
        opened = self.models[run].partitions.get(partition) if run in self.models else None
        assert got == (opened is not None and opened.phase is Phase.COMPACTING)
        if opened and got:
            opened.fence = self.fences

    @precondition(lambda self: any(model.partitions for model in self.models.values()))
    @rule(which=numbers, partition=partitions, reopens=st.booleans())
    def a_compaction_is_succeeded_and_goes_on(
        self, which: int, partition: Partition, reopens: bool
    ) -> None:
        for _ in range(2):
            self.a_compaction_begins(which, partition)
        if len(self.compactions) > 1:
            self.a_compaction_has_windows_fetched_first(
                1, 1
            ) if reopens else self.a_compaction_closes(1)

    @precondition(lambda self: self.compactions)
    @rule(which=numbers)
    def a_compaction_closes(self, which: int) -> None:
        run, partition, fence = self._compaction(which)
        got = self.runs.partitions.close(run, partition, fence, {"rows": 10})
        if self.has_lapsed:
            return
        assert got == self._is_its_own(run, partition, fence)
        if got:
            del self.models[run].partitions[partition], self.claims[partition]
            self.models[run].counts += Counter(partitions_done=1, rows=10)

    @precondition(lambda self: self.compactions)
    @rule(which=numbers, many=st.integers(1, 2))
    def a_compaction_has_windows_fetched_first(self, which: int, many: int) -> None:
        run, partition, fence = self._compaction(which)
        windows = WINDOWS_OF[partition][:many]
        try:
            self.runs.partitions.reopen(
                run, partition, fence, [Refetch(window, str(window), 1000) for window in windows]
            )
        except LeaseLost:
            assert self.has_lapsed or not self._is_its_own(run, partition, fence)
            return
        if self.has_lapsed:
            return
        assert self._is_its_own(run, partition, fence)
        self.models[run].partitions[partition] = ModelPartition(Phase.FETCHING, set(windows))
        self.models[run].counts += Counter(windows=many)

    @precondition(lambda self: self.models)
    @rule(
        which=numbers,
        how=st.sampled_from([State.CANCELLED, State.COMPLETE]),
        is_meant=st.integers(0, 3),
    )
    def a_run_ends(self, which: int, how: State, is_meant: int) -> None:
        """One time out of four, or most partitions would never come far."""
        if is_meant:
            return
        run = self._run(which)
        got = self.runs.end(run, how)
        assert got or self.has_lapsed
        self._forget(run)

    @precondition(lambda self: self.may_lapse)
    @rule(data=st.data())
    def a_key_lapses(self, data: st.DataObject) -> None:
        """Delete a key of Redis.

        The model no longer applies then; that every run still ends is checked last.
        """
        keys = sorted(self.redis.scan_iter("klines:*"))
        if keys:
            self.redis.delete(data.draw(st.sampled_from(keys)))
            self.has_lapsed = True

    @invariant()
    def redis_tells_what_the_model_does(self) -> None:
        if self.has_lapsed:
            return
        assert set(self.runs.active()) == set(self.models)
        told = self.redis.hgetall("klines:claims")
        assert {name.decode(): run.decode() for name, run in told.items()} == {
            str(partition): run for partition, run in self.claims.items()
        }
        for run, model in self.models.items():
            partitions = self.runs.partitions.states(run)
            assert {partition: state.phase for partition, state in partitions.items()} == {
                partition: opened.phase for partition, opened in model.partitions.items()
            }
            left = {
                window_field(window)
                for opened in model.partitions.values()
                for window in opened.left
            }
            assert {field.decode() for field in self.redis.hkeys(run_key(run, "windows"))} == left
            assert set(self.runs.partitions.deferred(run)) == model.deferred
            progress = self.runs.progress(run)
            assert progress
            assert (
                +Counter(progress.counts) - Counter(calls_issued=10**6, calls_ahead=10**6)
                == +model.counts
            )

    @invariant()
    def nothing_of_an_ended_run_stays_for_ever(self) -> None:
        left = [key for run in self.ended for key in self.redis.scan_iter(f"{run_key(run)}*")]
        assert all(self.redis.pttl(key) > 0 for key in left), left

    def teardown(self) -> None:
        """Have a planner that knows what the lake lacks bring every run to its end."""
        while active := self.runs.active():
            self._bring_to_its_end(active[0])
        assert self.has_lapsed or self.redis.hgetall("klines:claims") == {}
        super().teardown()

    def _bring_to_its_end(self, run: str) -> None:
        if self.runs.request(run) is None:
            self.runs.end(run, State.CANCELLED)
            return
        # Whoever else there is ends first: this run need not wait for it.
        for other in self.runs.active():
            if other != run:
                self.runs.end(other, State.CANCELLED)
        leads = self.runs.take_lead(run, 10**9)
        assert leads
        held = set[Partition]()
        for _ in range(10):
            for partition in PARTITIONS:
                if partition not in held and leads.partitions.claim(run, partition):
                    leads.partitions.open(run, partition, WINDOWS_OF[partition])
            under_way = leads.partitions.reconcile(run)
            for window in under_way.windows:
                leads.partitions.finish_window(run, window, {})
            for partition in leads.partitions.states(run):
                self.fences += 1
                if leads.partitions.begin_compaction(run, partition, 10**9 + self.fences):
                    assert leads.partitions.close(run, partition, 10**9 + self.fences, {})
                    held.add(partition)
            if (
                held == set(PARTITIONS)
                and not leads.partitions.states(run)
                and not leads.partitions.deferred(run)
            ):
                assert leads.end(run, State.COMPLETE)
                return
        pytest.fail(
            f"the run does not come to its end: {leads.partitions.states(run)}, "
            f"{leads.partitions.deferred(run)}"
        )

    def _run(self, which: int) -> str:
        return sorted(self.models)[which % len(self.models)]

    def _any_run(self, which: int) -> str:
        """Return a run, one that has ended among them."""
        known = sorted([*self.models, *self.ended])
        return known[which % len(known)]

    def _planner(self, which: int) -> tuple[str, int, Runs]:
        """Return one of the two latest planners, mostly the latest."""
        return self.planners[-2 if which == 0 and len(self.planners) > 1 else -1]

    def _compaction(self, which: int) -> tuple[str, Partition, int]:
        """Return one of the three latest compactions."""
        return self.compactions[-1 - which % min(3, len(self.compactions))]

    def _as_led(self, run: str, fence: int, write: object) -> bool | None:
        """Return the result of a planner's write, or None where it was refused.

        A write must be refused after a successor has begun.
        """
        assert callable(write)
        try:
            got = bool(write())
        except LeaseLost:
            assert self.has_lapsed or self.models[run].leader != fence
            return None
        if run not in self.models:
            return None
        assert self.has_lapsed or self.models[run].leader == fence
        return got

    def _is_its_own(self, run: str, partition: Partition, fence: int) -> bool:
        opened = self.models[run].partitions.get(partition) if run in self.models else None
        return opened is not None and opened.phase is Phase.COMPACTING and opened.fence == fence

    def _forget(self, run: str) -> None:
        self.models.pop(run)
        self.ended.append(run)
        self.claims = {partition: owner for partition, owner in self.claims.items() if owner != run}


def test_runs_do_what_the_model_does_and_come_to_their_end_whatever_happens(redis: Redis) -> None:
    class Machine(RunsMachine):
        pass

    Machine.redis = redis
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
