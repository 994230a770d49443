"""Modules of the extra `read`."""

from __future__ import annotations

import json

import pytest

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.support.optional import require_extra


def test_a_module_that_is_there_is_given() -> None:
    assert require_extra("json", "this test") is json


def test_what_needs_a_module_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(
        RequestError,
        match=r"^--sql needs `pip install 'klinefleet\[read\]'`: no no_such_module_at_all$",
    ):
        require_extra("no_such_module_at_all", "--sql")
