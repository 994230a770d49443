"""`klines coverage` over lakes that the fleet filled, as text and as a chart."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.acceptance.test_flower import BROWSER, HEADLESS
from tests.expected import Wanted
from tests.harness import WARM, Fleet
from tests.servers import ObjectStore

SPOT = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT")


@pytest.fixture(autouse=True)
def _empty_lake_and_no_faults(fleet: Fleet) -> None:
    fleet.empty()


def coverage(fleet: Fleet, *options: str, exits: int = 0, **env: str) -> dict[str, Any]:
    """Run the command and return its document."""
    done = WARM.run(
        ["coverage", "--json", *options], folder=fleet.folder, env=fleet.env | env, timeout_s=240
    )
    assert done.returncode == exits, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["complete"] is (exits == 0)
    return told


def holes(told: dict[str, Any], symbol: str) -> list[tuple[str, str, str]]:
    """Return (reason, start, end) of a symbol's holes."""
    (one,) = (one for one in told["series"] if one["symbol"] == symbol)
    return [(hole["reason"], hole["start"], hole["end"]) for hole in one["holes"]]


def alone(fleet: Fleet, tmp_path: Path) -> dict[str, str]:
    """Surroundings in which no Redis answers."""
    return {"KLINES_REDIS_URL": f"unix://{tmp_path}/nobody.sock"}


def test_outages_listings_and_delistings_are_told_and_are_no_lack(
    fleet: Fleet, tmp_path: Path
) -> None:
    for market in ("spot", "um"):
        assert fleet.klines("catalog", "update", "--market", market).returncode == 0
    fleet.download(*Wanted("spot", SPOT, "2023-03-24", "2023-03-25").arguments)
    outage = ("exchange outage", "2023-03-24T12:40", "2023-03-24T14:00")
    told = coverage(fleet)
    assert told["runs_known"]
    assert [holes(told, symbol) for symbol in SPOT] == [[outage]] * 4
    assert {one["rows"] for one in told["series"]} == {1440 - 80}
    (only,) = coverage(fleet, "--symbols", "BTCUSDT", **alone(fleet, tmp_path))["series"]
    assert [hole["told"] for hole in only["holes"]] == ["4 of 4 series had none"]
    fleet.download(*Wanted("spot", ("BTCUSDT", "NOTUSDT"), "2024-05-16", "2024-05-17").arguments)
    fleet.download(
        *Wanted(
            "um", ("BTCUSDT", "SRMUSDT"), "2022-11-27", "2022-11-30", source="archive"
        ).arguments
    )
    told = coverage(
        fleet, "--market", "spot", "--start", "2024-05-16", "--symbols", "BTCUSDT,NOTUSDT"
    )
    assert holes(told, "NOTUSDT") == [("before listing", "2024-05-16", "2024-05-16T12:00")]
    assert holes(told, "BTCUSDT") == []
    told = coverage(fleet, "--market", "um")
    assert holes(told, "SRMUSDT") == [
        ("after the end of trading", "2022-11-28T05:00", "2022-11-30")
    ]
    between = coverage(fleet, "--market", "spot", exits=1)
    assert ("not fetched", "2023-03-25", "2024-05-16") in holes(between, "BTCUSDT")


def test_what_failed_is_told_with_its_run_until_a_newer_run_has_brought_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    """The archive may still publish a month that ended just now, but not an old one."""
    first = datetime.now(UTC).replace(day=1)
    start = (first - timedelta(days=1)).strftime("%Y-%m-01")
    recent = Wanted(
        "um", ("SIM007USDT",), start, first.strftime("%Y-%m-01"), "1h", source="archive"
    )
    old = Wanted("um", ("SIM007USDT",), "2024-01-01", "2024-02-01", "1h", source="archive")
    fleet.exchange.archive_faults({"absent": 1.0})
    runs = []
    for wanted in (old, recent):
        done = fleet.klines("download", "--json", *wanted.arguments)
        assert done.returncode == 1, done.stderr
        runs.append(json.loads(done.stdout)["run"])
    fleet.exchange.archive_faults({})
    series = ("--market", "um", "--interval", "1h", "--symbols", "SIM007USDT")
    for env in ({}, alone(fleet, tmp_path)):
        told = coverage(fleet, *series, exits=1, **env)
        assert told["runs_known"] is (not env)
        found = {hole["reason"]: hole for hole in told["series"][0]["holes"]}
        assert set(found) == {"failed", "not published yet", "not fetched"}
        assert runs[0] in found["failed"]["told"]
        assert found["failed"]["again"] == "run the download again"
        assert runs[1] in found["not published yet"]["told"]
        assert (found["not published yet"]["start"], found["not published yet"]["end"]) == (
            recent.start,
            recent.end,
        )
    fleet.download(*Wanted("um", old.symbols, old.start, old.end, "1h").arguments)
    assert (
        coverage(fleet, *series, "--start", old.start, "--end", old.end)["series"][0]["holes"] == []
    )


def test_a_single_series_has_its_holes_listed_and_a_request_without_sense_is_one_line(
    fleet: Fleet,
) -> None:
    fleet.download(*Wanted("spot", ("BTCUSDT",), "2023-03-24", "2023-03-25").arguments)
    done = fleet.klines("coverage", "--start", "2023-03-23")
    assert done.returncode == 1
    assert re.search(
        r"BTCUSDT +2023-03-24\.\.2023-03-25 +1,360 +47\.22 %  1 without candle, 1 not fetched",
        done.stdout,
    )
    assert "2023-03-24T12:40..2023-03-24T14:00" in done.stdout
    for arguments, word in [
        (("--market", "mars"), "mars"),
        (("--interval", "2m"), "2m"),
        (("--kind", "fundingRate", "--interval", "1m"), "interval"),
        (("--market", "spot", "--kind", "markPriceKlines"), "markPriceKlines"),
        (("--symbols", "NOSUCHUSDT"), "NOSUCHUSDT"),
        (("--start", "soon"), "soon"),
        (("--start", "2024-01-02", "--end", "2024-01-01"), "2024-01-01"),
        (("--plot", "coverage.gif"), "coverage.gif"),
        (("--plot", "no/such/folder.png"), "no/such"),
        (("--market", "cm"), "holds nothing"),
    ]:
        done = fleet.klines("coverage", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        (line,) = done.stderr.splitlines()
        assert word in line


def test_pictures_show_every_symbol_and_need_nothing_from_anywhere(
    fleet: Fleet, tmp_path: Path
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
    fleet.download(*Wanted("spot", symbols, "2026-01-05", "2026-01-09", "1h").arguments)
    pictures = [tmp_path / "coverage.png", tmp_path / "coverage.html"]
    done = fleet.klines("coverage", *(part for path in pictures for part in ("--plot", str(path))))
    assert done.returncode in (0, 1), done.stderr
    with Image.open(pictures[0]) as image:
        image.load()
        assert 600 < image.width < 1_600
        assert 150 < image.height < 600
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10, "nothing is drawn"
    page = pictures[1].read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(|src=", page.partition("<script>")[0])
    assert all(page.count(symbol) for symbol in symbols)
    assert len(page) < 60_000


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
def test_a_browser_draws_the_page_and_tells_what_the_pointer_is_on(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.download(*Wanted("spot", ("BTCUSDT",), "2026-01-05", "2026-01-09", "1h").arguments)
    assert fleet.klines("coverage", "--plot", str(tmp_path / "coverage.html")).returncode == 0
    page, shown = (tmp_path / "coverage.html").read_text(encoding="utf-8"), tmp_path / "shown.png"
    options = [*HEADLESS, f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=5000"]
    # What hovering shows, asked for by the page itself.
    hover = (
        "<script>const "
        "c=document.querySelector('canvas'),b=c.getBoundingClientRect();c.dispatchEvent(new "
        "MouseEvent("
        "'mousemove',{bubbles:true,clientX:b.left+1,clientY:b.top+1}))</script></body>"
    )
    hovered = tmp_path / "hovered.html"
    hovered.write_text(page.replace("</body>", hover), encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), *options, f"--screenshot={shown}", "--dump-dom", hovered.as_uri()],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    told = done.stdout.partition('id="tip"')[2].partition("<script")[0]
    assert "BTCUSDT, 2026-01-05: 100 %" in told
    with Image.open(shown) as image:
        assert (22, 120, 68) in {
            colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []
        }


def test_nothing_of_a_bucket_is_read_a_second_time(
    fleet_of: Callable[..., Fleet], tmp_path: Path
) -> None:
    with ObjectStore(tmp_path) as store:
        mine = fleet_of(store_url="s3://lake", **store.env)
        mine.start_worker()
        mine.download(*Wanted("um", ("BTCUSDT", "ETHUSDT"), "2024-01-30", "2024-02-03").arguments)
        told = coverage(mine)
        assert [one["rows"] for one in told["series"]] == [4 * 1440] * 2
        before = store.requests()
        assert coverage(mine)["series"] == told["series"]
        asked = {
            method: count - before.get(method, 0) for method, count in store.requests().items()
        }
        assert asked["LIST"] > 0
        assert asked["GET"] == 0
