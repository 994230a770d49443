"""Credentials that change are taken up by a process that lives on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from klinefleet.workers.domain.errors import StoreFault
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.storage.s3 import S3Store
from klinefleet.workers.support.settings import Settings
from tests.servers import ObjectStore

Writer = Callable[[str], None]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 server, and an environment with no credentials for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.chdir(tmp_path)
    with ObjectStore(tmp_path) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


def _in_a_file(monkeypatch: pytest.MonkeyPatch) -> Writer:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "credentials")

    def write(key: str) -> None:
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
        Path("credentials").write_text(text)

    return write


def _in_dotenv(monkeypatch: pytest.MonkeyPatch) -> Writer:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")  # so that it is as it was, afterwards
        monkeypatch.delenv(name)

    def write(key: str) -> None:
        Path(".env").write_text(f"AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY=secret\n")

    return write


@pytest.mark.parametrize("place", [_in_a_file, _in_dotenv])
@pytest.mark.parametrize(
    "code",
    ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "InvalidToken"],
)
def test_credentials_that_are_replaced_on_disk_are_used_from_then_on(
    server: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[pytest.MonkeyPatch], Writer],
    code: str,
) -> None:
    write = place(monkeypatch)
    write("first")
    Settings.load()
    store = open_store("s3://lake", sleep=lambda _: None)
    store.put("a/1", b"one")
    server.faults(refused={"first": code})
    write("second")
    store.put("a/2", b"two")
    assert store.read("a/1") == b"one"
    store.check_writable()
    assert sorted(server.objects()) == ["lake/a/1", "lake/a/2"]


def test_credentials_that_come_late_are_found(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, now_s = _in_a_file(monkeypatch), 0.0
    write("first")
    store = open_store("s3://lake", sleep=lambda _: None)
    assert isinstance(store, S3Store)
    store._clock = lambda: now_s
    server.faults(refused={"first": "ExpiredToken"})
    for _ in range(2):
        with pytest.raises(StoreFault, match="the credentials have expired"):
            store.put("a/1", b"one")
    write("second")
    now_s = 60.0
    store.require_writable()
    store.put("a/1", b"one")


def test_credentials_are_read_again_a_bounded_number_of_times() -> None:
    class Refusing:
        def pipe_file(self, *_: Any, **__: Any) -> None:
            cause = Exception("from the server")
            cause.response = {"Error": {"Code": "ExpiredToken"}}  # type: ignore[attr-defined]
            raise PermissionError("no") from cause

    opened: list[int] = []

    def reopen() -> Refusing:
        opened.append(1)
        return Refusing()

    store = S3Store(Refusing(), "lake", reopen=reopen, sleep=lambda _: None, clock=lambda: 0.0)
    for _ in range(20):
        with pytest.raises(StoreFault):
            store.put("a/1", b"one")
    assert len(opened) == 1


def test_polars_reads_with_the_credentials_of_a_file(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_a_file(monkeypatch)("first")
    store, body = open_store("s3://lake"), io.BytesIO()
    pl.DataFrame({"open": [1.5]}).write_parquet(body)
    store.put("lake/1.parquet", body.getvalue())
    server.faults(refused={"": "AccessDenied"})
    options = store.polars_options()
    assert options
    found = pl.read_parquet(store.address("lake/1.parquet"), storage_options=options)
    assert found["open"].to_list() == [1.5]
    assert (options["aws_access_key_id"], options["aws_secret_access_key"]) == ("first", "secret")


def test_a_missing_object_reads_no_credentials_again(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _in_a_file(monkeypatch)("first")
    assert open_store("s3://lake").read("none") is None
    assert "credentials" not in caplog.text


def test_a_trial_write_that_was_left_in_a_bucket_is_swept_by_age(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_a_file(monkeypatch)("first")
    store = open_store("s3://lake/klines")
    left, kept = "raw/.writable." + "a" * 32, "raw/market=um/1"
    for key in (left, kept):
        store.put(key, b"one")
    store.sweep(["raw"])
    assert list(server.objects()) == [f"lake/klines/{kept}"]
