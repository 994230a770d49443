"""An exchange and its archive that know the truth about days, and lie in some of their answers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from klinefleet.workers.binance.archive import Downloaded
from klinefleet.workers.binance.archive_names import ArchiveFile
from klinefleet.workers.binance.exchange_info import ExchangeInfo, Listing
from klinefleet.workers.binance.rest import RestAnswer
from klinefleet.workers.domain.errors import NotPublished, ServerFault, Unreachable
from klinefleet.workers.domain.paging import Page
from klinefleet.workers.domain.series import Series
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from klinefleet.workers.limits.budget import Grant
from tests.unit.helpers.in_process_fleet import FakeArchive, zipped

SYMBOL = "BTCUSDT"
#: The exchange's clock: it goes on by a second with each answer.
NOW_MS = utc_ms(2026)


@dataclass
class Truth:
    """The days that exist, and what is odd about some of them."""

    first_ms: int
    end_ms: int
    absent: set[int] = field(default_factory=set)
    """Days of outages: no source has ever had a row."""
    odd: set[int] = field(default_factory=set)
    """Days whose row has more taker volume than volume, wherever one looks."""

    def days(self, start_ms: int, end_ms: int) -> list[int]:
        """Return the open times of the rows that exist in some time."""
        first = max(start_ms, self.first_ms) + (-start_ms) % DAY_MS
        times = range(first, min(end_ms, self.end_ms), DAY_MS)
        return [at for at in times if at not in self.absent]

    def values(self, at: int) -> list[float]:
        """Return open, high, low, close, volume, quote volume, count, and both taker volumes."""
        price = 100.0 + at // DAY_MS % 97
        taker = 5.0 if at in self.odd else 1.0
        return [price, price + 2, price - 2, price + 1, 3.0, 300.0, 7, taker, 100.0]


#: The values of a row as told, in the order of `Truth.values`.
Told = dict[int, list[float]]
_HIGH, _COUNT = 1, 6


@dataclass
class LyingExchange:
    """Answers of REST and of the archive; one in `every` is a lie.

    No two lies are about one day: a single voice is wrong, the others are right.
    """

    truth: Truth
    rng: random.Random
    every: int
    is_honest: bool = False
    lied_about: set[int] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    """The lies, for whoever reads a failed example."""
    _clock: Iterable[int] = field(default_factory=lambda: count(NOW_MS, 1000))

    def tell(self, subject: str, start_ms: int, end_ms: int, lies: dict[str, Lie]) -> Told:
        """Return the rows of some time, true or not."""
        rows = {at: self.truth.values(at) for at in self.truth.days(start_ms, end_ms)}
        if self.is_honest or not rows or self.rng.randrange(self.every):
            return rows
        name = self.rng.choice(sorted(lies))
        false = lies[name](dict(rows), self.rng)
        changed = {at for at in rows if false.get(at) != rows[at]}
        if changed & self.lied_about:
            return rows
        self.lied_about |= changed
        self.told.append(f"{subject}: {name}")
        return false

    def next_ms(self) -> int:
        return next(iter(self._clock))

    def exchange_info(self) -> ExchangeInfo:
        told = Listing(
            SYMBOL, "TRADING", self.truth.first_ms, None, "BTC", "USDT", SYMBOL, "PERPETUAL"
        )
        return ExchangeInfo(2400, (told,))

    def first_open_ms(self, series: Series, known_ms: int | None = None) -> int | None:
        return self.truth.first_ms

    def rows(self, series: Series, page: Page) -> RestAnswer:
        now_ms = self.next_ms()
        if not self.is_honest and not self.rng.randrange(3 * self.every):
            raise self.rng.choice([ServerFault("503"), Unreachable("reset")])
        told = self.tell(f"rest {page.span}", page.span.start_ms, page.span.end_ms, REST_LIES)
        lines = [_line(at, values, '"') for at, values in told.items()]
        if not self.is_honest and not self.rng.randrange(4 * self.every):
            self.told.append(f"rest {page.span}: spoilt")
            lines = self.rng.choice([lines * 2, lines[::-1], lines[:1] * 2])
        body = f"[{','.join(f'[{line}]' for line in lines)}]".encode()
        return RestAnswer(body, now_ms, 1, 0.0, Grant(1, 0, 0, 1000, 1000, 1))


class LyingArchive(FakeArchive):
    """The archive of the same exchange."""

    def __init__(self, exchange: LyingExchange) -> None:
        super().__init__()
        self._exchange = exchange

    def download(self, file: ArchiveFile) -> Downloaded:
        exchange = self._exchange
        asked_ms = exchange.next_ms()
        if file not in self.files:
            raise NotPublished(f"{file.key}: the archive has no such file")
        if not exchange.is_honest and not exchange.rng.randrange(3 * exchange.every):
            raise exchange.rng.choice([NotPublished(f"{file.key}: 404"), Unreachable("reset")])
        span = file.span
        told = exchange.tell(str(file.stem), span.start_ms, span.end_ms, FILE_LIES)
        lines = [_line(at, values, "") for at, values in told.items()]
        if lines and not exchange.is_honest and not exchange.rng.randrange(4 * exchange.every):
            exchange.told.append(f"{file.stem}: spoilt")
            lines[0] = exchange.rng.choice([lines[0].rpartition(",")[0], f"{lines[0]},0", "<html>"])
        body = zipped(file, "\n".join(lines).encode())
        digest = hashlib.sha256(body).hexdigest()
        return Downloaded(body, digest[:8], 0, digest, asked_ms, 1)


Lie = Callable[[Told, random.Random], Told]


def _short(rows: Told, rng: random.Random) -> Told:
    return dict(list(rows.items())[: rng.randrange(len(rows))])


def _late(rows: Told, rng: random.Random) -> Told:
    return dict(list(rows.items())[rng.randint(1, len(rows)) :])


def _hole(rows: Told, rng: random.Random) -> Told:
    start = rng.randrange(len(rows))
    times = list(rows)[start : start + rng.randint(1, 5)]
    return {at: values for at, values in rows.items() if at not in times}


def _empty(rows: Told, rng: random.Random) -> Told:
    return {}


def _faulty(rows: Told, rng: random.Random) -> Told:
    at, index = rng.choice(list(rows)), rng.choice([_HIGH, _COUNT])
    values = rows[at].copy()
    values[index] = -1.0 if index == _HIGH else -1
    return rows | {at: values}


REST_LIES: dict[str, Lie] = {
    "short": _short,
    "begins late": _late,
    "hole": _hole,
    "empty": _empty,
    "faulty": _faulty,
}
FILE_LIES = REST_LIES


def _line(at: int, values: list[float], quote: str) -> str:
    """Return a row as REST (with quotes) and as a file (without) spells it."""
    opened, high, low, close, volume, quote_volume, trades, taker, taker_quote = values
    numbers = [f"{quote}{value}{quote}" for value in (opened, high, low, close, volume)]
    rest = [f"{quote}{value}{quote}" for value in (taker, taker_quote)]
    middle = [str(at + DAY_MS - 1), f"{quote}{quote_volume}{quote}", str(int(trades))]
    return ",".join([str(at), *numbers, *middle, *rest, f"{quote}0{quote}"])
