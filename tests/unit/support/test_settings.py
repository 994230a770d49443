from __future__ import annotations

import errno
import os
import pwd
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.stores import absolute_url
from klinefleet.workers.storage.open import open_store
from klinefleet.workers.support.settings import Settings

DEFAULTS = {
    "redis_url": None,
    "store_url": "./data",
    "spot_url": "https://api.binance.com",
    "um_url": "https://fapi.binance.com",
    "cm_url": "https://dapi.binance.com",
    "archive_url": "https://data.binance.vision",
    "archive_list_url": "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
    "slots": 50,
    "weight_share": 1.0,
    "egress": "default",
    "source_address": None,
    "timeout_s": 20,
    "keep_raw": False,
    "metrics_port": 0,
    "metrics_address": "127.0.0.1",
    "log": "auto",
}

GOOD = [
    ("REDIS_URL", "redis://:secret@host:6379/1", "redis://:secret@host:6379/1"),
    ("REDIS_URL", "rediss://host", "rediss://host"),
    ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("STORE_URL", "/data/klines/", "/data/klines"),
    ("STORE_URL", "/", "/"),
    ("STORE_URL", "relative", "relative"),
    ("STORE_URL", "./data:x", "./data:x"),
    ("STORE_URL", "/data/a:b/", "/data/a:b"),
    ("STORE_URL", "data/a:b", "data/a:b"),
    ("STORE_URL", "s3", "s3"),
    ("STORE_URL", "s3://bucket", "s3://bucket"),
    ("STORE_URL", "s3://my_Bucket.x-1/", "s3://my_Bucket.x-1"),
    ("STORE_URL", "s3://bucket/a/prefix/", "s3://bucket/a/prefix"),
    ("SPOT_URL", "https://data-api.binance.vision/", "https://data-api.binance.vision"),
    ("UM_URL", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("CM_URL", "http://[::1]:8000/", "http://[::1]:8000"),
    ("ARCHIVE_URL", "http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
    (
        "ARCHIVE_LIST_URL",
        "http://127.0.0.1:8000/archive-list/",
        "http://127.0.0.1:8000/archive-list",
    ),
    ("SLOTS", "1", 1),
    ("SLOTS", "1000", 1000),
    ("WEIGHT_SHARE", "0.25", 0.25),
    ("WEIGHT_SHARE", "1", 1.0),
    ("EGRESS", "home-2.example_A", "home-2.example_A"),
    ("EGRESS", "a" * 64, "a" * 64),
    ("SOURCE_ADDRESS", "192.0.2.7", "192.0.2.7"),
    ("SOURCE_ADDRESS", "2001:db8::1", "2001:db8::1"),
    ("TIMEOUT_S", "1", 1),
    ("TIMEOUT_S", "50", 50),
    ("KEEP_RAW", "true", True),
    ("KEEP_RAW", "Yes", True),
    ("KEEP_RAW", "1", True),
    ("KEEP_RAW", "FALSE", False),
    ("KEEP_RAW", "no", False),
    ("KEEP_RAW", "0", False),
    ("METRICS_PORT", "0", 0),
    ("METRICS_PORT", "65535", 65535),
    ("METRICS_ADDRESS", "0.0.0.0", "0.0.0.0"),
    ("METRICS_ADDRESS", "::1", "::1"),
    ("LOG", "json", "json"),
    ("LOG", "Text", "text"),
]

REDIS, FOLDER, WEB = (
    "redis://, rediss:// or unix://",
    "a folder or s3://bucket/prefix",
    "http:// or https://",
)
BAD = [
    ("REDIS_URL", "localhost:6379", REDIS),
    ("REDIS_URL", "http://host", REDIS),
    ("STORE_URL", "gs://bucket", FOLDER),
    ("STORE_URL", "s3://", FOLDER),
    ("STORE_URL", "s3:///prefix", FOLDER),
    ("STORE_URL", "s3:/bucket/prefix", FOLDER + "; s3://bucket/prefix is a bucket"),
    ("STORE_URL", "s3//bucket/prefix", FOLDER + "; s3://bucket/prefix is a bucket"),
    ("STORE_URL", "S3://bucket/prefix", FOLDER + "; s3://bucket/prefix is a bucket"),
    ("STORE_URL", "s3a://bucket", FOLDER + "; s3://bucket is a bucket"),
    ("STORE_URL", "s3:bucket", FOLDER + "; s3://bucket is a bucket"),
    ("STORE_URL", " s3://bucket/prefix", FOLDER + "; s3://bucket/prefix is a bucket"),
    ("STORE_URL", "s3://bucket/prefix ", FOLDER),
    ("STORE_URL", '"s3://bucket/prefix"', FOLDER),
    ("STORE_URL", "s3:\\bucket", FOLDER),
    ("STORE_URL", "bucket.s3.amazonaws.com/prefix", FOLDER),
    ("STORE_URL", "arn:aws:s3:::bucket", FOLDER),
    ("STORE_URL", "http://minio:9000/bucket", FOLDER),
    ("STORE_URL", "https:/minio/bucket", FOLDER),
    ("STORE_URL", "file:///data", FOLDER),
    ("STORE_URL", "file:/data", FOLDER),
    ("STORE_URL", "gs:bucket", FOLDER),
    ("STORE_URL", "data:x", FOLDER + "; ./data:x is a folder"),
    ("SPOT_URL", "api.binance.com", WEB),
    ("UM_URL", "wss://fapi.binance.com", WEB),
    ("CM_URL", "https://", WEB),
    ("ARCHIVE_URL", "data.binance.vision", "an http:// or https:// address"),
    ("ARCHIVE_LIST_URL", "ftp://host", "an http:// or https:// address"),
    ("SLOTS", "0", "from 1 to 1000"),
    ("SLOTS", "1001", "from 1 to 1000"),
    ("SLOTS", "-5", "from 1 to 1000"),
    ("SLOTS", "many", "from 1 to 1000"),
    ("SLOTS", "5.0", "from 1 to 1000"),
    ("WEIGHT_SHARE", "0", "above 0 and at most 1"),
    ("WEIGHT_SHARE", "1.4", "above 0 and at most 1"),
    ("WEIGHT_SHARE", "-0.1", "above 0 and at most 1"),
    ("WEIGHT_SHARE", "half", "above 0 and at most 1"),
    ("WEIGHT_SHARE", "nan", "above 0 and at most 1"),
    ("WEIGHT_SHARE", "inf", "above 0 and at most 1"),
    ("EGRESS", "two words", "1 to 64 letters"),
    ("EGRESS", "a@b", "1 to 64 letters"),
    ("EGRESS", "{a}", "1 to 64 letters"),
    ("EGRESS", "a" * 65, "1 to 64 letters"),
    ("SOURCE_ADDRESS", "eth0", "an IP address"),
    ("SOURCE_ADDRESS", "192.0.2.256", "an IP address"),
    ("TIMEOUT_S", "0", "from 1 to 50"),
    ("TIMEOUT_S", "51", "from 1 to 50"),
    ("KEEP_RAW", "maybe", "true or false"),
    ("METRICS_PORT", "65536", "from 0 to 65535"),
    ("METRICS_PORT", "-1", "from 0 to 65535"),
    ("METRICS_ADDRESS", "localhost", "an IP address"),
    ("LOG", "xml", "auto, json or text"),
]


def test_without_an_environment_every_setting_has_its_documented_default() -> None:
    settings = Settings.load({})
    assert {f.name: getattr(settings, f.name) for f in fields(Settings)} == DEFAULTS


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_taken_as_it_is_meant(name: str, text: str, value: object) -> None:
    settings = Settings.load({f"KLINES_{name}": text})
    got = {f.name: getattr(settings, f.name) for f in fields(Settings)}
    assert got == DEFAULTS | {name.lower(): value}
    assert type(got[name.lower()]) is type(value)


@pytest.mark.parametrize(("name", "text", "allowed"), BAD)
def test_a_bad_value_stops_the_boot_and_names_variable_value_and_range(
    name: str, text: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load({f"KLINES_{name}": text})
    assert str(refused.value).startswith(f"KLINES_{name} was {text!r}; it must be")
    assert allowed in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_setting_is_tried_with_good_and_with_bad_values() -> None:
    names = {f.name.upper() for f in fields(Settings)}
    assert {name for name, *_ in GOOD} == {name for name, *_ in BAD} == names


@pytest.mark.parametrize("name", [f.name for f in fields(Settings)])
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert Settings.load({f"KLINES_{name.upper()}": ""}) == Settings()


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().slots = 7  # type: ignore[misc]


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.load({"SLOTS": "7", "OTHER_SLOTS": "0", "AWS_REGION": "x"}) == Settings()


def test_a_dotenv_file_in_the_working_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "KLINES_SLOTS=7\n# a comment\nKLINES_EGRESS='home'\nKLINES_KEEP_RAW=\n"
    )
    settings = Settings.load({})
    assert (settings.slots, settings.egress, settings.keep_raw) == (7, "home", False)


def test_the_environment_wins_over_the_dotenv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other.env"
    file.write_text("KLINES_SLOTS=7\nKLINES_EGRESS=home\n")
    assert Settings.load({"KLINES_SLOTS": "9"}, file).slots == 9
    monkeypatch.setattr(os, "environ", {"KLINES_SLOTS": "9"})
    settings = Settings.load(dotenv=file)
    assert (settings.slots, settings.egress) == (9, "home")


def test_a_bad_value_in_the_dotenv_file_stops_the_boot_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KLINES_SLOTS=lots\n")
    with pytest.raises(SettingsError, match="KLINES_SLOTS was 'lots'"):
        Settings.load({})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("KLINES_SLOTS=7\n".encode("utf-16"), ("line 1", "UTF-16", "UTF-8")),
        ("KLINES_SLOTS=7\n".encode("utf-16-be"), ("line 1", "UTF-16")),
        ("# fine\nKLINES_EGRESS=café\n".encode("latin-1"), ("line 2", "0xe9", "UTF-8")),
        (b"\n\n# ours\nKLINES_SLOT=7\n", ("line 4", "'KLINES_SLOT'", "KLINES_SLOTS")),
        (b"klines_slots=7\n", ("line 1", "'klines_slots'", "KLINES_SLOTS")),
        (b"KLINES_WHATEVER=7\n", ("line 1", "'KLINES_WHATEVER'", ".env.example")),
        (b"KLINES_LOG=json\nKLINES_SLOTS: 7\n", ("line 2", "NAME=value")),
        (b"KLINES_LOG=json\nKLINES_SLOTS 7\n", ("line 2", "NAME=value")),
        (b'KLINES_LOG="json\n', ("line 1", "NAME=value")),
    ],
)
def test_a_dotenv_file_that_would_be_misread_is_refused_with_its_line(
    tmp_path: Path, body: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / ".env").write_bytes(body)
    with pytest.raises(SettingsError) as refused:
        Settings.load({})
    assert str(refused.value).startswith(".env, ")
    assert [word for word in words if word not in str(refused.value)] == []
    assert "\n" not in str(refused.value)


def test_a_dotenv_file_with_a_byte_order_mark_is_read_from_its_first_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("KLINES_SLOTS=7\r\nKLINES_LOG=json\r\n".encode("utf-8-sig"))
    assert (Settings.load({}).slots, Settings.load({}).log) == (7, "json")


def test_a_dotenv_that_cannot_be_read_is_no_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.mkdir()
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: is a directory"):
        Settings.load({})
    file.rmdir()
    file.symlink_to(".env")
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: too many levels"):
        Settings.load({})
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(SettingsError, match=r"^\.env is a link to a file that does not exist"):
        Settings.load({})

    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: permission denied"):
        Settings.load({})


def test_a_dotenv_file_cannot_choose_what_programs_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {
        "AWS_PROFILE": "a",
        "FLOWER_BASIC_AUTH": "u:p",
        "HTTPS_PROXY": "http://p",
        "no_proxy": "h",
        "REQUESTS_CA_BUNDLE": "/ca",
        "CURL_CA_BUNDLE": "/ca",
        "SSL_CERT_FILE": "/ca",
        "SSL_CERT_DIR": "/ca",
    }
    others = ("PATH", "PYTHONPATH", "LD_PRELOAD", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "MY_AWS_KEY")
    lines = [*(f"{name}={value}" for name, value in taken.items()), *(f"{n}=/x" for n in others)]
    (tmp_path / ".env").write_text("\n".join(lines))
    environ: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environ)
    Settings.load()
    assert environ == taken


def test_keys_of_the_store_in_the_dotenv_file_reach_their_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "AWS_ACCESS_KEY_ID=from-file\nAWS_SECRET_ACCESS_KEY=hidden\nAWS_REGION=from-file\n"
    )
    environ = {"AWS_REGION": "from-environment"}
    monkeypatch.setattr(os, "environ", environ)
    Settings.load()
    assert environ == {
        "AWS_ACCESS_KEY_ID": "from-file",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_REGION": "from-environment",
    }


def test_an_environment_that_is_handed_in_leaves_the_process_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("AWS_REGION=from-file\nKLINES_SLOTS=7\n")
    environ: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environ)
    assert Settings.load({}).slots == 7
    assert environ == {}


def test_each_market_is_asked_at_its_own_address() -> None:
    settings = Settings(spot_url="http://s", um_url="http://u", cm_url="http://c")
    assert [settings.base_url(market) for market in Market] == ["http://s", "http://u", "http://c"]


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/ann")
    assert Settings.load({"KLINES_STORE_URL": "~/lake/"}).store_url == "/homes/ann/lake"
    assert Settings.load({"KLINES_STORE_URL": "~"}).store_url == "/homes/ann"
    assert Settings.load({"KLINES_STORE_URL": "./~/lake"}).store_url == "./~/lake"
    root = pwd.getpwuid(0)
    url = Settings.load({"KLINES_STORE_URL": f"~{root.pw_name}/lake"}).store_url
    assert url == f"{root.pw_dir}/lake"
    assert absolute_url("~/lake") == "/homes/ann/lake"


def test_a_home_folder_that_is_not_known_is_no_folder_named_tilde(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingsError, match=r"^KLINES_STORE_URL was '~nosuch/x', but .*'nosuch'"):
        Settings.load({"KLINES_STORE_URL": "~nosuch/x"})
    monkeypatch.setenv("HOME", "")
    with pytest.raises(SettingsError, match="home folder of this user is not known"):
        Settings.load({"KLINES_STORE_URL": "~/x"})


@pytest.mark.parametrize(
    "value",
    [
        *("redis://:secret@host:port/x", "redis://:secret@host/x", "redis//:secret@host"),
        *("redis://:sec/secret@host", "redis://:secret@host:0", "redis://:secret:6379/0"),
        *("redis://:secret@[::1", "http://:secret@host", ":secret@host", "unix://"),
    ],
)
def test_an_address_of_redis_that_is_none_is_refused_without_its_password(value: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^KLINES_REDIS_URL was .*it must be a redis://"
    ) as told:
        Settings.load({"KLINES_REDIS_URL": value})
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("name", ["STORE_URL", "SPOT_URL", "ARCHIVE_LIST_URL"])
@pytest.mark.parametrize("value", ["s3://key:sec/secret@bucket/x", "s3//k:secret@bucket"])
def test_keys_in_an_address_are_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^KLINES_{name} was .*\*\*\*@bucket") as told:
        Settings.load({f"KLINES_{name}": value})
    assert "secret" not in str(told.value)
    with pytest.raises(SettingsError) as told:
        open_store(value)
    assert "secret" not in str(told.value)
