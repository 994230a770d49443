"""Make the pictures of the README again: `make pictures`.

Runs a small fleet against the stand-in exchange and takes pictures of what people see: the progress
bar in a terminal (tmux), the coverage page and Flower (headless Chromium). Needs Linux, tmux and
Chromium. The machine's name is hidden: all of it runs in a UTS namespace of its own.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from deploy.local_fleet import LocalFleet, local_fleet  # noqa: E402 - found once ROOT is in the path

PICTURES = Path(__file__).with_name("pictures")
HOST = "machine-1"
#: One download for the progress bar: long enough to be caught half-way.
DOWNLOAD = (
    "klines download --market um --symbols BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT --interval 1m "
    "--start 2025-01-01"
)
COLUMNS, LINES = 120, 12
#: What is shown of the terminal: the bar between these shares of the work, in per cent.
HALF_WAY = range(50, 90)
WITHIN_S = 300.0

#: What the lake of the coverage page holds: some of it is cut short, and of the last symbols the
#: archive lacks files, and REST may not be asked.
LAKE = (
    ("BTCUSDT,ETHUSDT,BNBUSDT,SRMUSDT,SOLUSDT,ZKUSDT,BTCUSDC", "--start 2021-01-01"),
    (",".join(f"SIM{n:03}USDT" for n in range(1, 9)), "--start 2021-01-01"),
    (",".join(f"SIM{n:03}USDT" for n in range(9, 13)), "--start 2022-06-01 --end 2025-03-01"),
    (",".join(f"SIM{n:03}USDT" for n in range(13, 17)), "--start 2021-01-01 --source archive"),
)
ABSENT_FILES = {"rates": {"absent": 0.08}, "seed": 3}

CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--virtual-time-budget=20000"),
)


def main() -> None:
    """Make all pictures."""
    if socket.gethostname() != HOST:
        _begin_again_under_another_host_name()
    PICTURES.mkdir(exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="klines-pictures-") as folder:
        # Commands show a relative path then, and read no .env.
        os.chdir(folder)
        home = Path(folder)
        with local_fleet(home, Path("data"), "--latency-ms", "150", "--symbols", "40") as fleet:
            picture_progress(fleet, home)
            picture_flower(fleet, home)
            picture_coverage(fleet, home)


def picture_progress(fleet: LocalFleet, home: Path) -> None:
    """Write progress.svg: a download with its bar half-way, and the summary that follows."""
    tmux = ("tmux", "-L", f"pictures-{os.getpid()}", "-f", "/dev/null")
    shell = ("env", "PS1=$ ", "bash", "--norc", "--noprofile")
    size = ("-x", str(COLUMNS), "-y", str(LINES))
    subprocess.run([*tmux, "new-session", "-d", *size, *shell], env=fleet.env, check=True)

    def screen() -> str:
        captured = subprocess.run(
            [*tmux, "capture-pane", "-p", "-e", "-J"], capture_output=True, text=True, check=True
        )
        return captured.stdout.rstrip()

    def is_half_way(text: str) -> bool:
        done = re.search(r"(\d+) %", text)
        return done is not None and int(done[1]) in HALF_WAY

    try:
        subprocess.run([*tmux, "send-keys", f"clear; {DOWNLOAD}", "Enter"], check=True)
        bar = _until(screen, is_half_way).splitlines()
        summary = _until(screen, lambda text: "Parquet" in text).splitlines()
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
    bar_line = next(line for line in bar if " %" in line)
    shown = [f"$ {DOWNLOAD}", bar_line, *(line for line in summary if line not in bar)]
    # A line of the screen begins in the colour that the one above it ends with: not so here.
    _write_svg("\x1b[0m\n".join(shown).removesuffix("\n$"), PICTURES / "progress.svg")


def picture_flower(fleet: LocalFleet, home: Path) -> None:
    """Write flower.png: the tasks that have run so far."""
    _klines(fleet, "download --market um --symbols SIM001USDT --interval 1m --start 2026-09-01")
    _screenshot(home, f"{fleet.flower_url}/tasks", PICTURES / "flower.png", "1500,744")


def picture_coverage(fleet: LocalFleet, home: Path) -> None:
    """Write coverage.png: a lake that holds much and lacks some."""
    _klines(fleet, "catalog update --market um")
    for symbols, options in LAKE:
        if "archive" in options:
            _put(f"{fleet.exchange_url}/sim/archive", ABSENT_FILES)
        command = f"download --market um --interval 1h --symbols {symbols} {options}"
        _klines(fleet, command, codes=(0, 1))
    _klines(fleet, "coverage --market um --interval 1h --plot coverage.html", codes=(0, 1))
    _screenshot(home, f"file://{home}/coverage.html", PICTURES / "coverage.png", "1400,545")


def _begin_again_under_another_host_name() -> None:
    """Replace this process by one that is named `HOST`, in a UTS namespace of its own."""
    as_root = () if os.getuid() == 0 else ("--map-root-user",)
    again = f"hostname {HOST} && exec {sys.executable} {Path(__file__).resolve()}"
    os.execvp("unshare", ["unshare", "--uts", *as_root, "sh", "-c", again])


def _klines(fleet: LocalFleet, command: str, codes: tuple[int, ...] = (0,)) -> None:
    print(f"$ klines {command}", file=sys.stderr)
    code = subprocess.run(["klines", *command.split()], env=fleet.env, check=False).returncode
    if code not in codes:
        raise RuntimeError(f"klines {command} ended with {code}")


def _put(url: str, value: object) -> None:
    body, kind = json.dumps(value).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, kind, method="PUT")
    urllib.request.urlopen(request).close()


def _until(look: Callable[[], str], is_there: Callable[[str], bool]) -> str:
    ends = time.monotonic() + WITHIN_S
    while not is_there(seen := look()):
        if time.monotonic() > ends:
            raise TimeoutError(f"not seen within {WITHIN_S:.0f} s; the screen is:\n{seen}")
        time.sleep(0.1)
    return seen


def _write_svg(ansi: str, path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(ansi))
    svg = console.export_svg(title="klines download", theme=MONOKAI, unique_id="terminal")
    # Pictures load no fonts from elsewhere.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def _screenshot(home: Path, url: str, path: Path, size: str) -> None:
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    options = [*CHROMIUM, f"--window-size={size}", f"--user-data-dir={home / 'browser'}"]
    subprocess.run(
        [browser, *options, f"--screenshot={path}", url], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
