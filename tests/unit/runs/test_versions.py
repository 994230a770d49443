"""Messages between workers of two versions: added or missing optional fields are accepted."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from redis import Redis

from klinefleet.tasks.requests.request import Request
from klinefleet.tasks.verification.compare import Reference, Sample
from klinefleet.tasks.verification.pieces import Findings, VerificationPiece
from klinefleet.workers.domain.intervals import Interval
from klinefleet.workers.domain.kinds.klines import KLINES
from klinefleet.workers.domain.kinds.mark_price_klines import MARK_PRICE_KLINES
from klinefleet.workers.domain.markets import Market
from klinefleet.workers.domain.series import Partition, Source
from klinefleet.workers.domain.spans import Span
from klinefleet.workers.lake.catalog import Catalog
from klinefleet.workers.lake.faults import Fault, What
from klinefleet.workers.lake.footers.answers import Answer
from klinefleet.workers.lake.footers.footer import FOOTER_KEY, Footer
from klinefleet.workers.lake.footers.proof import Proof
from klinefleet.workers.sources.policy import Mode
from tests.unit.helpers.catalogs import catalog, entry
from tests.unit.helpers.in_process_fleet import InProcessFleet, series_of

REQUEST = Request(
    Market.USD_M,
    MARK_PRICE_KLINES,
    Interval.H1,
    ("BTCUSDT", "ETHUSDT"),
    0,
    3_600_000,
    Mode.REST,
    True,
)
REQUIRED = ("market", "interval", "symbols", "start_ms", "end_ms")
PIECE = VerificationPiece(series_of(), ("2024-01",), Sample(Reference.REST, 0.5, 7), "2024-01")
FAULT = Fault("lake/x.parquet", What.GAP, Span(0, 1), 2, "said")
PROOF = Proof(3, "abc", (Span(1, 2),), True)
FOOTER = Footer(
    (Answer(Span(0, 9), Source.DAILY, 7, "etag", "content"),),
    PROOF,
    Partition(series_of(), "1970-01"),
)


def request_json(**changed: Any) -> str:
    return json.dumps(json.loads(REQUEST.to_json()) | changed)


def without(*keys: str) -> str:
    return json.dumps(
        {key: value for key, value in json.loads(REQUEST.to_json()).items() if key not in keys}
    )


def test_a_request_of_a_later_or_an_earlier_version_is_read() -> None:
    assert Request.from_json(REQUEST.to_json()) == REQUEST
    assert Request.from_json(request_json(colour="red")) == REQUEST
    plain = replace(REQUEST, kind=KLINES, source=Mode.AUTO, revise=False)
    assert Request.from_json(without("kind", "source", "revise")) == plain


@pytest.mark.parametrize("key", REQUIRED)
def test_a_request_without_what_it_needs_is_an_error_that_names_it(key: str) -> None:
    with pytest.raises(ValueError, match=f"without '{key}'"):
        Request.from_json(without(key))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("market", 1),
        ("kind", None),
        ("interval", "7m"),
        ("symbols", "BTCUSDT"),
        ("symbols", [1]),
        ("start_ms", "0"),
        ("start_ms", True),
        ("end_ms", 1.5),
        ("end_ms", None),
        ("source", "moon"),
        ("revise", 1),
        ("revise", None),
    ],
)
def test_a_request_with_a_wrong_value_is_an_error_that_names_it(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{key}' was"):
        Request.from_json(request_json(**{key: value}))


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", ""])
def test_what_is_no_request_is_never_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON as of us
        Request.from_json(text)


def test_a_piece_of_a_verification_is_read_with_an_argument_more_or_less() -> None:
    assert VerificationPiece.from_arguments(*PIECE.to_arguments()) == PIECE
    assert VerificationPiece.from_arguments(*PIECE.to_arguments(), {"more": 1}) == PIECE
    assert VerificationPiece.from_arguments(*PIECE.to_arguments()[:2]) == VerificationPiece(
        PIECE.series, PIECE.periods
    )


def test_what_was_found_is_read_with_a_field_more_or_less() -> None:
    found = Findings(1, 2, 3, 4, [FAULT, replace(FAULT, span=None)], {"a": "b"}, {"c": "d"})
    plain = json.loads(found.to_json("piece"))
    assert Findings.from_json(json.dumps(plain)) == ("piece", found)
    more = plain | {
        "colour": "red",
        "faults": [fault | {"colour": "red"} for fault in plain["faults"]],
    }
    assert Findings.from_json(json.dumps(more)) == ("piece", found)
    less = {"piece": "piece", "faults": [{"key": FAULT.key, "what": FAULT.what, "told": "said"}]}
    assert Findings.from_json(json.dumps(less)) == (
        "piece",
        Findings(faults=[replace(FAULT, span=None, rows=0)]),
    )
    assert Findings.from_json(json.dumps({"piece": "piece"})) == ("piece", Findings())


def footer_json(**changed: Any) -> dict[str, str]:
    return {FOOTER_KEY: json.dumps(json.loads(FOOTER.metadata()[FOOTER_KEY]) | changed)}


def test_a_footer_of_a_later_version_is_read_with_all_that_this_one_knows() -> None:
    record = json.loads(FOOTER.metadata()[FOOTER_KEY])
    proof = record["proof"] | {"colour": "red", "gaps": [[1, 2, "more"]]}
    more = footer_json(
        version=3,
        colour="red",
        answers=[[*answer, "more", 1] for answer in record["answers"]],
        proof=proof,
    )
    assert Footer.from_metadata(more | {"other": "x"}) == FOOTER


def test_a_proof_that_lacks_what_is_optional_is_read_without_it() -> None:
    plain = footer_json(proof={"rows": 3, "checksum": "abc"})
    expected = replace(FOOTER, proof=replace(PROOF, gaps=None, is_on_grid=False))
    assert Footer.from_metadata(plain) == expected
    assert Footer.from_metadata(footer_json(proof=None)) == replace(FOOTER, proof=None)
    assert Footer.from_metadata(footer_json(partition=None)) == replace(FOOTER, partition=None)


@pytest.mark.parametrize(
    "changed",
    [
        {"answers": None},
        {"answers": [[0, 9]]},
        {"answers": 5},
        {"proof": {"rows": 3}},
        {"proof": [1]},
        {"proof": "sound"},
        {"partition": "um/klines/7m/BTCUSDT/2024-01"},
        {"partition": "um/klines/1m/../2024-01"},
        {"partition": 5},
    ],
)
def test_a_footer_that_lacks_what_is_needed_is_an_error_and_never_an_empty_one(
    changed: dict[str, Any],
) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Footer.from_metadata(footer_json(**changed))


def test_a_symbol_that_a_later_worker_has_told_more_of_is_still_known(
    redis: Redis, one: InProcessFleet
) -> None:
    known = one.services.symbol_cache.listing(series_of())
    assert known
    assert redis.hexists("klines:listed:um", "BTCUSDT")
    redis.hset(
        "klines:listed:um", "BTCUSDT", json.dumps(["TRADING", known.onboard_ms, None, "USDT", 1])
    )
    assert one.services.symbol_cache.listing(series_of()) == known


def test_a_catalog_is_read_with_a_column_more_or_without_an_optional_one() -> None:
    held = catalog(entry("BTCUSDT"))
    body = held.to_parquet()
    frame, metadata = pl.read_parquet(body), pl.read_parquet_metadata(io.BytesIO(body))
    for other in (frame.with_columns(colour=pl.lit("red")), frame.drop("is_guessed")):
        buffer = io.BytesIO()
        other.write_parquet(
            buffer,
            metadata={key: metadata[key] for key in metadata if key.startswith("klinefleet")},
        )
        assert Catalog.from_parquet(buffer.getvalue()).entries() == held.entries()
