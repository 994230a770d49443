"""What is logged: one line an event, with what it is about, and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
from structlog.contextvars import clear_contextvars

from klinefleet.tasks.runs.log_context import bind_log_context
from klinefleet.workers.domain.series import Partition, Source, Window
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.domain.timestamps import utc_ms
from klinefleet.workers.support.log import LineFormatter
from klinefleet.workers.support.threads import Threads

PARTITION = Partition.parse("um/klines/1m/BTCUSDT/2024-01")
WINDOW = Window(PARTITION, Span(utc_ms(2024), utc_ms(2024, 1, 2)), Source.REST)
SECRETS = ("wJalrXUtnFEMI", 'qu"ote\\ü-secret')


@pytest.fixture(autouse=True)
def _about_nothing() -> Iterator[None]:
    clear_contextvars()
    yield
    clear_contextvars()


def line(
    event: str, *args: object, as_json: bool = True, level: int = logging.INFO, error: bool = False
) -> str:
    """Return what is written of one event."""
    info = sys.exc_info() if error else None
    record = logging.LogRecord("klinefleet.tasks.fetch", level, __file__, 1, event, args, info)
    record.created = 1704164645.25
    return LineFormatter(as_json=as_json, secrets=SECRETS).format(record)


def test_a_line_of_json_says_when_how_bad_where_and_what() -> None:
    line_fields = json.loads(line("handed back: %s", "Redis 已"))
    assert line_fields == {
        "time": "2024-01-02T03:04:05.250Z",
        "level": "info",
        "logger": "klinefleet.tasks.fetch",
        "event": "handed back: Redis 已",
    }


def test_an_event_of_several_lines_is_one_line_in_both_forms() -> None:
    assert "\n" not in line("first\nsecond")
    assert "\n" not in line("first\nsecond", as_json=False)


@pytest.mark.parametrize("as_json", [True, False])
def test_what_others_have_written_moves_no_cursor(as_json: bool) -> None:
    bind_log_context("r\x1b[2J\n1", WINDOW)
    written = line("no such symbol: \x1b[31mBTC\u202eTDSU\x07\x9b1m", as_json=as_json)
    assert written.isprintable()
    assert r"\u001b[31mBTC\u202eTDSU" in written.replace(r"\\u", r"\u")


def test_an_exception_is_a_field_and_not_many_lines() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        written = line("it broke", level=logging.ERROR, error=True)
    assert "\n" not in written
    line_fields = json.loads(written)
    assert line_fields["level"] == "error"
    assert "ValueError: two\nlines" in line_fields["exception"]


def test_lines_of_a_task_say_its_run_series_and_window() -> None:
    bind_log_context("r1", WINDOW)
    line_fields = json.loads(line("x"))
    assert line_fields["run"] == "r1"
    assert line_fields["series"] == "um/klines/1m/BTCUSDT"
    assert (line_fields["window"], line_fields["source"]) == ("2024-01-01..2024-01-02", "rest")
    assert list(line_fields)[:5] == ["time", "level", "logger", "event", "run"]


def test_lines_from_page_threads_say_what_their_task_is_about() -> None:
    bind_log_context("r1", WINDOW)
    with Threads(1) as threads:
        first = list(threads.map(lambda _: line("x"), [1, 2]))
        bind_log_context("r2", PARTITION)
        then = threads.submit(line, "y").result()
    assert [json.loads(text)["run"] for text in first] == ["r1", "r1"]
    assert json.loads(then)["run"] == "r2"


def test_a_thread_keeps_nothing_of_the_task_it_worked_for_before() -> None:
    with Threads(1) as threads:
        bind_log_context("r1")
        threads.submit(line, "x").result()
        clear_contextvars()
        assert "run" not in json.loads(threads.submit(line, "y").result())


def test_a_person_reads_the_sentence_and_only_what_it_does_not_say() -> None:
    bind_log_context("r1", WINDOW)
    written = line("run r1 is slow", as_json=False, level=logging.WARNING)
    assert written.startswith("03:04:05.250Z warning run r1 is slow")
    assert "run=" not in written
    assert "window=2024-01-01..2024-01-02" in written


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "Redis at redis://:sesame@host:6379/1 is gone",
            "Redis at redis://:***@host:6379/1 is gone",
        ),
        ("rediss://fleet:p@ss:w@host", "rediss://fleet:***@host"),
        ("http://user:x@[::1]:9000/bucket", "http://user:***@[::1]:9000/bucket"),
        ("redis://host:6379/0 and a@b", "redis://host:6379/0 and a@b"),
        ("GET /k?X-Amz-Signature=abc123&x=1", "GET /k?X-Amz-Signature=***&x=1"),
        ("GET /k?AWSAccessKeyId=AKIA&Signature=a%2Fb", "GET /k?AWSAccessKeyId=***&Signature=***"),
        ("the key wJalrXUtnFEMI was refused", "the key *** was refused"),
        ('even qu"ote\\ü-secret is known', "even *** is known"),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_written(text: str, left: str, as_json: bool) -> None:
    written = line("%s", text, as_json=as_json)
    assert (json.loads(written)["event"] if as_json else written).endswith(left)


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_written_of_an_exception_and_its_cause(as_json: bool) -> None:
    try:
        try:
            raise OSError("redis://:sesame@host refused")
        except OSError as error:
            raise ValueError("key wJalrXUtnFEMI") from error
    except ValueError:
        written = line("it broke", as_json=as_json, error=True)
    assert "ValueError" in written
    assert "sesame" not in written
    assert SECRETS[0] not in written
