"""A bucket whose server ignores conditional writes is refused before the first call is spent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.refusals import assert_refused, download
from tests.harness import Fleet
from tests.servers import ObjectStore


@pytest.mark.parametrize(
    "ignored", [["If-None-Match"], ["If-Match"], ["If-Match", "If-None-Match"]]
)
def test_a_server_that_ignores_a_condition_is_refused_with_its_name(
    store: ObjectStore, fleet_of: Callable[..., Fleet], ignored: tuple[str, ...]
) -> None:
    fleet = fleet_of(store_url="s3://lake/klines")
    store.faults(ignores=ignored)
    told = ("s3://lake/klines", "conditional writes", "nothing was queued")
    assert_refused(fleet, *download("--local"), words=told)
    assert_refused(fleet, *download("--detach"), words=told)
    assert store.objects() == {}
    store.faults()
    assert fleet.klines(*download("--detach")).returncode == 0
    assert "lake/klines/klinefleet.json" in store.objects()
