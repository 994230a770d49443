"""What every invalid request comes to: exit 2, one line on stderr, nothing queued."""

from __future__ import annotations

from tests.harness import Fleet

GOOD = {
    "market": "um",
    "symbols": "BTCUSDT",
    "interval": "1m",
    "start": "2024-01-01",
    "end": "2024-02-01",
}


def download(*flags: str, **changes: str | None) -> list[str]:
    """Return a good download's words with some options changed, None leaves one out."""
    named = [
        part
        for name, value in (GOOD | changes).items()
        if value is not None
        for part in (f"--{name}", value)
    ]
    return ["download", *named, *flags]


def assert_refused(fleet: Fleet, *arguments: str, words: tuple[str, ...]) -> None:
    """Exit 2, one line on stderr that names the thing, no run, and no row asked for.

    Lines that only tell that a question is asked again are progress.
    """
    before, asked = runs(fleet), calls_for_rows(fleet)
    done = fleet.klines(*arguments)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.endswith("; asking again")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("klines: ")
    assert [word for word in words if word not in lines[0]] == [], f"not named: {lines[0]}"
    assert runs(fleet) == before, "something was queued"
    assert calls_for_rows(fleet) == asked, "rows were asked for"


def calls_for_rows(fleet: Fleet) -> int:
    """Return how many calls were for more than whether a symbol exists."""
    return sum(call["limit"] != "1" for call in fleet.exchange.calls())


def runs(fleet: Fleet) -> list[bytes]:
    """Return the runs there ever were."""
    client = fleet.redis.client()
    try:
        found: list[bytes] = client.zrange("klines:runs", 0, -1)
        return found
    finally:
        client.close()
