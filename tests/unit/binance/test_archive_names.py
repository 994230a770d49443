from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinefleet.workers.binance.archive_names import ArchiveFile, folder, has_daily, symbols_folder
from klinefleet.workers.binance.archive_zip import member
from klinefleet.workers.domain.errors import ArchiveDamaged
from klinefleet.workers.domain.intervals import CANDLE_INTERVALS, Interval
from klinefleet.workers.domain.kinds.declaration import Kind
from klinefleet.workers.domain.kinds.funding_rate import FUNDING_RATE
from klinefleet.workers.domain.kinds.index_price_klines import INDEX_PRICE_KLINES
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.kinds.premium_index_klines import PREMIUM_INDEX_KLINES
from klinefleet.workers.domain.kinds.registry import KINDS
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Series, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import DAY_MS, utc_ms
from tests.unit.helpers.in_process_fleet import zipped

RECORDED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded files are not here"
)

CANDLES = [kind for kind in KINDS.values() if kind is not FUNDING_RATE]
MINUTES = Series(Market.SPOT, KLINES, Interval.M1, "BTCUSDT")
FUNDING = Series(Market.USD_M, FUNDING_RATE, Interval.EVENTS, "BTCUSDT")
DAY = ArchiveFile(MINUTES, Source.DAILY, "2024-01-05")
CSV = b"1704412800000,1,2,3,4\n" * 40


@pytest.mark.parametrize(
    ("series", "source", "period", "key"),
    [
        (
            MINUTES,
            Source.DAILY,
            "2024-01-05",
            "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-05.zip",
        ),
        (
            Series(Market.USD_M, PREMIUM_INDEX_KLINES, Interval.H12, "1000SHIBUSDT"),
            Source.MONTHLY,
            "2024-12",
            "data/futures/um/monthly/premiumIndexKlines/1000SHIBUSDT/12h/1000SHIBUSDT-12h-2024-12.zip",
        ),
        (
            Series(Market.COIN_M, INDEX_PRICE_KLINES, Interval.D1, "BTCUSD"),
            Source.DAILY,
            "2023-02-28",
            "data/futures/cm/daily/indexPriceKlines/BTCUSD/1d/BTCUSD-1d-2023-02-28.zip",
        ),
        (
            Series(Market.COIN_M, MARK_PRICE_KLINES, Interval.M1, "BTCUSD_230331"),
            Source.MONTHLY,
            "2023-01",
            "data/futures/cm/monthly/markPriceKlines/BTCUSD_230331/1m/BTCUSD_230331-1m-2023-01.zip",
        ),
        (
            FUNDING,
            Source.MONTHLY,
            "2026-03",
            "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-03.zip",
        ),
        (
            Series(Market.SPOT, KLINES, Interval.MO1, "BTCUSDT"),
            Source.MONTHLY,
            "2024-01",
            "data/spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-01.zip",
        ),
        (
            Series(Market.USD_M, KLINES, Interval.M1, "币安人生USDT"),
            Source.MONTHLY,
            "2025-10",
            "data/futures/um/monthly/klines/币安人生USDT/1m/币安人生USDT-1m-2025-10.zip",
        ),
    ],
)
def test_files_are_named_as_the_archive_names_them(
    series: Series, source: Source, period: str, key: str
) -> None:
    file = ArchiveFile(series, source, period)
    assert file.key == key
    assert file.key == f"{folder(series, source)}{file.stem}.zip"
    assert folder(series, source).startswith(symbols_folder(series.market, series.kind, source))
    assert ArchiveFile.parse(key) == file


@pytest.mark.parametrize("market", Market)
@pytest.mark.parametrize("kind", CANDLES)
def test_no_series_shares_a_file_with_another(market: Market, kind: Kind) -> None:
    files = {
        ArchiveFile(Series(market, kind, interval, "BTCUSDT"), source, period)
        for interval in CANDLE_INTERVALS
        for source, period in ((Source.MONTHLY, "2024-02"), (Source.DAILY, "2024-02-29"))
        if source == Source.MONTHLY or has_daily(Series(market, kind, interval, "BTCUSDT"))
    }
    assert {ArchiveFile.parse(file.key) for file in files} == files
    assert len({file.key.lower() for file in files}) == len(files)


@pytest.mark.parametrize(
    ("period", "start_ms", "end_ms"),
    [
        ("2024-01", utc_ms(2024, 1), utc_ms(2024, 2)),
        ("2024-02", utc_ms(2024, 2), utc_ms(2024, 3)),
        ("2023-12", utc_ms(2023, 12), utc_ms(2024, 1)),
        ("2024-02-29", utc_ms(2024, 2, 29), utc_ms(2024, 3)),
        ("2023-12-31", utc_ms(2023, 12, 31), utc_ms(2024, 1)),
    ],
)
def test_a_file_holds_its_whole_day_or_month(period: str, start_ms: int, end_ms: int) -> None:
    source = Source.DAILY if len(period) == 10 else Source.MONTHLY
    assert ArchiveFile(MINUTES, source, period).span == Span(start_ms, end_ms)


@given(
    ms=st.integers(utc_ms(2017), utc_ms(2100) - 1),
    source=st.sampled_from([Source.DAILY, Source.MONTHLY]),
)
def test_every_moment_falls_into_the_file_that_is_named_for_it(ms: int, source: Source) -> None:
    file = ArchiveFile.of(MINUTES, source, ms)
    assert file.span.start_ms <= ms < file.span.end_ms
    assert ArchiveFile.of(MINUTES, source, file.span.start_ms) == file
    assert ArchiveFile.of(MINUTES, source, file.span.end_ms - 1) == file
    assert ArchiveFile.of(MINUTES, source, file.span.end_ms) > file
    assert ArchiveFile.parse(file.key) == file


@pytest.mark.parametrize(
    "key",
    [
        f"{DAY.key}.CHECKSUM",
        "data/spot/daily/klines/ADABKRW/1d/ADABKRW-1d-2020-8.zip",
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2023-02-29.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-13.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-00.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-0000-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-9999-12.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/ETHUSDT-1m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-5m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1M/BTCUSDT-1M-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/7m/BTCUSDT-7m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/events/BTCUSDT-events-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT//BTCUSDT--2021-01.zip",
        "data/spot/monthly/klines/BTCUSDT/BTCUSDT-1m-2024-01.zip",
        "data/spot/monthly/klines/btcusdt/1m/btcusdt-1m-2024-01.zip",
        "data/spot/monthly/klines/BTC USDT/1m/BTC USDT-1m-2024-01.zip",
        "data/spot/monthly/klines/../1m/..-1m-2024-01.zip",
        "data/spot/monthly/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2024-01.zip",
        "data/spot/rest/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip",
        "data/option/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-05.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip\n",
        "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/",
        "",
    ],
)
def test_what_is_no_file_of_ours_is_not_taken_for_one(key: str) -> None:
    assert ArchiveFile.parse(key) is None


def test_no_daily_file_is_looked_for_where_the_archive_makes_only_monthly_ones() -> None:
    fine = {
        interval
        for interval in CANDLE_INTERVALS
        if has_daily(Series(Market.SPOT, KLINES, interval, "A"))
    }
    assert set(CANDLE_INTERVALS) - fine == {Interval.D3, Interval.W1, Interval.MO1}
    assert not has_daily(FUNDING)


def unpacked(body: bytes, stem: str, **limits: int) -> bytes:
    """What a reader of the stream gets."""
    try:
        return gzip.decompress(member(body, stem, **limits))
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged("the stream does not unpack") from error


def test_the_csv_of_a_zip_comes_out_as_it_went_in() -> None:
    assert unpacked(zipped(DAY, CSV), DAY.stem) == CSV
    assert unpacked(zipped(DAY, b""), DAY.stem) == b""


def test_a_zip_of_another_file_is_never_read_in_its_place() -> None:
    neighbour = ArchiveFile(MINUTES, Source.DAILY, "2024-01-06")
    with pytest.raises(
        ArchiveDamaged, match=r"holds other .*\['BTCUSDT-1m-2024-01-06.csv'\].*nothing was merged"
    ):
        unpacked(zipped(neighbour, CSV), DAY.stem)


@pytest.mark.parametrize(
    "names", [[], ["", "more.txt"], ["more.txt", ""], ["", ""], ["", "folder/"]]
)
def test_a_zip_without_exactly_its_csv_is_refused(names: list[str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name or f"{DAY.stem}.csv")
            if info.filename not in archive.namelist():
                archive.writestr(info, CSV)
            else:
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr(info, CSV)
    with pytest.raises(ArchiveDamaged, match="holds"):
        unpacked(buffer.getvalue(), DAY.stem)


@pytest.mark.parametrize("body", [b"", b"PK\x05\x06", b"<html>not here</html>", CSV])
def test_what_is_no_zip_is_damaged(body: bytes) -> None:
    with pytest.raises(ArchiveDamaged, match="does not unpack"):
        unpacked(body, DAY.stem)


def test_a_zip_cut_anywhere_is_damaged() -> None:
    whole = zipped(DAY, CSV)
    for length in range(len(whole)):
        with pytest.raises(ArchiveDamaged):
            unpacked(whole[:length], DAY.stem)


def test_no_flipped_bit_of_the_packed_bytes_changes_a_row() -> None:
    whole = zipped(DAY, CSV)
    directory = whole.index(b"PK\x01\x02")
    for place in range(directory):
        for bit in range(8):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << bit
            try:
                got = unpacked(bytes(spoilt), DAY.stem)
            except ArchiveDamaged:
                continue
            assert got == CSV, (place, bit)


def _patched(whole: bytes, mark: bytes, offset: int, value: int) -> bytes:
    """The zip with one 16-bit field of the record that begins with `mark` set to `value`."""
    at = whole.index(mark) + offset
    return whole[:at] + struct.pack("<H", value) + whole[at + 2 :]


def test_an_encrypted_or_oddly_packed_zip_is_damaged() -> None:
    whole = zipped(DAY, CSV)
    local, central = (b"PK\x03\x04", 6), (b"PK\x01\x02", 8)
    for field, value in ((0, 1), (2, 99)):
        spoilt = whole
        for mark, flags in (local, central):
            spoilt = _patched(spoilt, mark, flags + field, value)
        with pytest.raises(ArchiveDamaged, match="does not unpack"):
            unpacked(spoilt, DAY.stem)


def test_a_zip_that_unpacks_to_more_than_a_month_can_have_is_not_unpacked() -> None:
    with pytest.raises(ArchiveDamaged, match=r"unpacks to too many bytes \(.*: 880\)"):
        unpacked(zipped(DAY, CSV), DAY.stem, max_bytes=len(CSV) - 1)
    assert unpacked(zipped(DAY, CSV), DAY.stem, max_bytes=len(CSV)) == CSV


@needs_recordings
@pytest.mark.parametrize(
    ("listing", "every"),
    [("um_monthly_1m_urls_20260628.zip", 1), ("spot_daily_1m_USDT_urls_20260204.zip", 53)],
)
def test_every_recorded_url_is_a_file_of_ours(listing: str, every: int) -> None:
    with zipfile.ZipFile(RECORDED / "vision_listing" / listing) as archive:
        urls = archive.read(archive.namelist()[0]).decode().split()[::every]
    assert len(urls) > 10_000
    seen = set()
    for url in urls:
        file = ArchiveFile.parse(urlsplit(url).path.removeprefix("/"))
        assert file is not None, url
        assert file.series.interval is Interval.M1
        assert file.span.end_ms - file.span.start_ms >= DAY_MS
        seen.add(file)
    assert len(seen) == len(urls)


@needs_recordings
def test_recorded_zips_unpack_under_their_own_names_only() -> None:
    paths = sorted(RECORDED.rglob("official_zips/*.zip"))
    assert paths
    for path in paths:
        assert unpacked(path.read_bytes(), path.stem).count(b"\n") >= 1440
        with pytest.raises(ArchiveDamaged):
            unpacked(path.read_bytes(), f"{path.stem}x")


@pytest.mark.parametrize(
    "key",
    [
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-05.zip",
        "data/spot/monthly/klines/BTCUSDT/BTCUSDT-klines-2024-01.zip",
        "data/futures/um/monthly/fundingRate/BTCUSDT/8h/BTCUSDT-8h-2024-01.zip",
        "data/futures/um/daily/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01-05.zip",
        "data/spot/daily/klines/BTCUSDT/1w/BTCUSDT-1w-2024-01-05.zip",
        "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-２０２４-01.zip",
    ],
)
def test_a_key_that_no_file_can_have_is_no_file(key: str) -> None:
    assert ArchiveFile.parse(key) is None


def test_a_zip_whose_directory_points_nowhere_is_damaged() -> None:
    body = bytearray(zipped(DAY, CSV))
    body[-22 + 16] ^= 255
    with pytest.raises(ArchiveDamaged):
        unpacked(bytes(body), DAY.stem)


@pytest.mark.parametrize(
    ("interval", "source", "period", "rows"),
    [
        (Interval.S1, Source.MONTHLY, "2024-01", 31 * 86_400),
        (Interval.M1, Source.DAILY, "2024-01-05", 1440),
        (Interval.MO1, Source.MONTHLY, "2024-02", 1),
    ],
)
def test_the_longest_lines_of_a_file_fit_its_bound_and_ten_times_as_many_do_not(
    interval: Interval, source: Source, period: str, rows: int
) -> None:
    file = ArchiveFile(Series(Market.SPOT, KLINES, interval, "BTCUSDT"), source, period)
    line = len("1735689600000000," + "123456789012.12345678," * 10 + "0\n")
    assert rows * line <= file.max_csv_bytes <= (1 << 16) + rows * 2000


def test_a_zip_that_unpacks_to_more_than_its_file_may_have_is_refused() -> None:
    body = zipped(DAY, b" " * (DAY.max_csv_bytes + 1))
    with pytest.raises(ArchiveDamaged, match="unpacks to too many bytes"):
        member(body, DAY.stem, max_bytes=DAY.max_csv_bytes)
