"""The settings of a process: read from the environment and `.env` (`KLINES_…`), and checked."""

from __future__ import annotations

import io
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.stores import parse_store_url
from klinefleet.workers.support.masking import mask_url

logger = logging.getLogger(__name__)

PREFIX = "KLINES_"
#: Names of compose.yaml that begin as settings do.
_OF_COMPOSE = ("KLINES_IMAGE",)
#: What else is taken from a `.env`: libraries read it in the environment. Nothing that would change
#: which programs or modules are run, since a `.env` may come with a folder of somebody else.
_TAKEN = re.compile(
    r"(AWS|FLOWER)_\w+|(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy"
    r"|(REQUESTS|CURL)_CA_BUNDLE|SSL_CERT_(FILE|DIR)"
)

#: What this process has put into its environment, by name.
_from_dotenv: dict[str, str] = {}

#: What names certificates to trust, the first one that is set.
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _web(name: str, text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).netloc:
        raise SettingsError(f"{name} was {text!r}; it must be an http:// or https:// address")
    return text.rstrip("/")


def _redis(name: str, text: str) -> str:
    try:
        url = urlsplit(text)
        if url.scheme == "unix" and url.path:
            return text
        # Reading the port raises ValueError if it is none.
        is_redis = url.scheme in ("redis", "rediss") and url.port != 0
        if is_redis and re.fullmatch(r"/?\d*", url.path):
            return text
    except ValueError:
        pass
    raise SettingsError(
        f"{name} was {text!r}; it must be a redis://, rediss:// or unix:// address, as "
        "redis://:password@host:port/number and unix:///path; in a password / @ # ? and % are "
        "written as %2F %40 %23 %3F and %25"
    )


def _whole(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", text) or not minimum <= int(text) <= maximum:
            raise SettingsError(
                f"{name} was {text!r}; it must be a whole number from {minimum} to {maximum}"
            )
        return int(text)

    return read


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise SettingsError(f"{name} was {text!r}; it must be above 0 and at most 1")
    return share


def _name(name: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise SettingsError(
            f"{name} was {text!r}; it must be 1 to 64 letters, digits, '.', '_' or '-'"
        )
    return text


def _address(name: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingsError(
            f"{name} was {text!r}; it must be an IP address of this machine"
        ) from None


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise SettingsError(f"{name} was {text!r}; it must be true or false")
    return text.lower() in ("true", "1", "yes")


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text.lower() not in choices:
            raise SettingsError(
                f"{name} was {text!r}; it must be {', '.join(choices[:-1])} or {choices[-1]}"
            )
        return text.lower()

    return read


def _setting(default: Any, read: Callable[[str, str], Any]) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True)
class Settings:
    """The checked settings. Each field is read from `KLINES_` + its name in capitals."""

    redis_url: str | None = _setting(None, _redis)
    """Broker, weight budget and run state; unset means a private server on this machine."""

    store_url: str = _setting("./data", parse_store_url)
    """A folder, or s3://bucket/prefix."""

    spot_url: str = _setting("https://api.binance.com", _web)
    """Base URL of the spot REST API."""

    um_url: str = _setting("https://fapi.binance.com", _web)
    """Base URL of the USD-M futures REST API."""

    cm_url: str = _setting("https://dapi.binance.com", _web)
    """Base URL of the COIN-M futures REST API."""

    archive_url: str = _setting("https://data.binance.vision", _web)
    """Base URL of the archive's files; `/data/…` is appended."""

    archive_list_url: str = _setting(
        "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision", _web
    )
    """URL of the archive's bucket listing; `?prefix=data/…` is appended."""

    slots: int = _setting(50, _whole(1, 1000))
    """Maximum number of requests in flight per worker process."""

    weight_share: float = _setting(1.0, _share)
    """Share of the exchange's weight limit that this fleet may use."""

    egress: str = _setting("default", _name)
    """Name of this worker's public address; workers with the same name share one weight budget."""

    source_address: str | None = _setting(None, _address)
    """Local address to bind outgoing requests to, for hosts with several."""

    timeout_s: int = _setting(20, _whole(1, 50))
    """Connect and read timeout of a request, in seconds.

    Below a minute, so that the exchange counts a lost call in at most two minutes.
    """

    keep_raw: bool = _setting(False, _flag)
    """Keep raw objects after compaction has published and verified their rows."""

    metrics_port: int = _setting(0, _whole(0, 65535))
    """Port on which `klines worker` serves Prometheus metrics; 0 for none."""

    metrics_address: str = _setting("127.0.0.1", _address)
    """Local address on which metrics are served; 0.0.0.0 for all."""

    log: str = _setting("auto", _one_of("auto", "json", "text"))
    """Format of log lines: `json`, `text`, or `auto`.

    `auto` is text on a terminal and in commands, JSON in workers elsewhere.
    """

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Settings:
        """Return the settings of this process; the environment wins over `.env`.

        AWS_, FLOWER_, proxy and CA variables in `.env` are put into the environment, where
        libraries read them; others are ignored. SettingsError names the variable and the value that
        is wrong, and the line of a `.env` that cannot be used.
        """
        values = _dotenv_variables(dotenv or Path(".env"), _names(cls))
        if environ is None:
            _put_into_environment(values)
            environ = os.environ
        values |= environ
        return cls(
            **{
                f.name: _read(f.metadata["read"], name, values[name])
                for name, f in zip(_names(cls), fields(cls), strict=True)
                if values.get(name)
            }
        )

    def base_url(self, market: Market) -> str:
        """Return the base URL of a market's REST API."""
        return {Market.SPOT: self.spot_url, Market.USD_M: self.um_url, Market.COIN_M: self.cm_url}[
            market
        ]


def reread_credentials() -> None:
    """Take the AWS_ variables again that this process has from `.env`, which may have changed.

    One that cannot be read any more changes nothing.
    """
    try:
        values = _dotenv_variables(Path(".env"), _names(Settings))
    except SettingsError as error:
        logger.warning("credentials are not read again: %s", error)
        return
    _put_into_environment({name: text for name, text in values.items() if name[:4] == "AWS_"})


def _put_into_environment(values: Mapping[str, str]) -> None:
    """Put variables of `.env` into the environment, unless it has them from elsewhere."""
    for name, value in values.items():
        if os.environ.get(name) in (None, _from_dotenv.get(name)):
            os.environ[name] = _from_dotenv[name] = value


def trusted_certificates() -> str | None:
    """Return the file or folder of certificates that the environment names; None without one.

    SettingsError if it cannot be read.
    """
    for name in _CERTIFICATES:
        if path := os.environ.get(name):
            if not os.access(path, os.R_OK):
                raise SettingsError(
                    f"{name} was {path!r}; it must be a file or a folder of certificates that can "
                    "be read; nothing was called"
                )
            return path
    return None


def _read(read: Callable[[str, str], Any], name: str, text: str) -> Any:
    """Return the value of a setting; a password in what is refused is not shown."""
    try:
        return read(name, text)
    except SettingsError as error:
        message = mask_url(text, str(error)) if name.endswith("_URL") else str(error)
        raise SettingsError(message) from None


def _names(settings: type[Settings]) -> list[str]:
    """Return the variables of the settings, in their order."""
    return [PREFIX + f.name.upper() for f in fields(settings)]


def _dotenv_variables(file: Path, names: list[str]) -> dict[str, str]:
    """Return the variables of a `.env` that are taken; none where there is no such file."""
    text = _dotenv_text(file)
    for binding in parse_stream(io.StringIO(text)):
        statement = binding.original.string
        blank = statement[: len(statement) - len(statement.lstrip())]
        where = f"{file}, line {binding.original.line + blank.count(chr(10))}"
        if binding.error:
            raise SettingsError(f"{where} is no NAME=value; nothing was started")
        name = binding.key or ""
        if name.upper().startswith(PREFIX) and name not in (*names, *_OF_COMPOSE):
            ends = [known.removeprefix(PREFIX) for known in names]
            similar = get_close_matches(name.upper().removeprefix(PREFIX), ends, 1)
            hint = f"did you mean {PREFIX}{similar[0]}?" if similar else ".env.example lists them"
            raise SettingsError(f"{where}: there is no setting {name!r}; {hint}")
    found = dotenv_values(stream=io.StringIO(text))
    return {
        name: value
        for name, value in found.items()
        if value and (name in names or _TAKEN.fullmatch(name))
    }


def _dotenv_text(file: Path) -> str:
    """Return the text of a `.env`; empty where there is none."""
    try:
        body = file.read_bytes()
    except FileNotFoundError:
        if file.is_symlink():
            raise SettingsError(f"{file} is a link to a file that does not exist") from None
        return ""
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be read: {(error.strerror or 'no reason given').lower()}; make it a "
            "readable file or remove it"
        ) from error
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body:
        line = body.partition(b"\0")[0].count(b"\n") + 1
        raise SettingsError(
            f"{file}, line {line} is not UTF-8 but looks like UTF-16; save it as UTF-8"
        )
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{file}, line {line} is not UTF-8: it has the byte 0x{body[error.start]:02x}; save it "
            "as UTF-8"
        ) from error
