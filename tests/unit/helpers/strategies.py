"""Hypothesis strategies for times, intervals and symbols."""

from __future__ import annotations

from hypothesis import strategies as st

from klinefleet.workers.domain.errors import RequestError
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS
from klinefleet.workers.domain.symbols import checked_symbol
from klinefleet.workers.domain.timestamps import utc_ms

moments = st.integers(utc_ms(2009), utc_ms(2031))


intervals = st.sampled_from(CANDLE_INTERVALS)


#: Whatever passes for a symbol, of letters and of what tries to be a path.
symbols = (
    st.one_of(
        st.from_regex(r"[\w-]{1,20}", fullmatch=True),
        st.text("AZ09_-./\\~é币 ", min_size=1, max_size=5),
    )
    .map(lambda text: checked_or_none(text) or "")
    .filter(bool)
)


def checked_or_none(text: str) -> str | None:
    try:
        return checked_symbol(text)
    except RequestError:
        return None
