"""A CHECKSUM counts in every spelling that tools write, and for its own file alone."""

from __future__ import annotations

import hashlib

import pytest

from klinefleet.workers.binance.checksums import find_sha256

SHA = hashlib.sha256(b"rows").hexdigest()
OTHER = hashlib.sha256(b"other rows").hexdigest()
NAME = "BTCUSDT-1m-2024-01.zip"
CHINESE = "币安人生USDT-1m-2025-10.zip"


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA}  {NAME}",
        f"{SHA}  {NAME}\n",
        f"{SHA}  {NAME}\r\n",
        f"\n{SHA}  {NAME}  \n\n",
        f"{SHA.upper()}  {NAME}",
        f"{SHA} *{NAME}",
        f"{SHA} {NAME}",
        f"{SHA}\t{NAME}",
        f"{SHA}  ./{NAME}",
        f"{SHA} *data/spot/monthly/klines/BTCUSDT/1m/{NAME}",
        f"{SHA}  C:\\files\\{NAME}",
        f"SHA256 ({NAME}) = {SHA}",
        f"SHA256({NAME})= {SHA.upper()}",
        f"SHA2-256(files/{NAME})= {SHA}\r\n",
        f"sha256 ({NAME}) = {SHA}",
        f"{OTHER}  ETH{NAME}\n{SHA}  {NAME}\n{OTHER}  {NAME}.old\n",
        f"# made today\n{SHA}  {NAME}\nSHA256 ({NAME}) = {SHA}\n",
        SHA,
        f" {SHA.upper()}\r\n",
    ],
)
def test_the_hash_of_a_file_is_found_however_it_is_spelled(text: str) -> None:
    for body in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert find_sha256(body, NAME) == SHA


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "gb18030"])
def test_a_name_in_another_script_is_known_in_its_encodings(encoding: str) -> None:
    assert find_sha256(f"{SHA}  {CHINESE}".encode(encoding), CHINESE) == SHA


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>soon</html>",
        f"{SHA}  ETH{NAME}",
        f"{SHA}  {NAME}.old",
        f"{SHA}{NAME}",
        f"{SHA[1:]}  {NAME}",
        f"0{SHA}  {NAME}",
        f"{SHA[:-1]}g  {NAME}",
        f"MD5 ({NAME}) = {SHA[:32]}",
        f"SHA512 ({NAME}) = {SHA}",
        f"SHA256 (ETH{NAME}) = {SHA}",
        f"{SHA}  {NAME}\n{OTHER}  {NAME}\n",
        f"{SHA}\n{OTHER}\n",
        f"{SHA}\n{OTHER}  ETH{NAME}\n",
    ],
)
def test_a_hash_of_something_else_is_none(text: str) -> None:
    assert find_sha256(text.encode(), NAME) is None
