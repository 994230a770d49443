"""What no failure may show a user: the text of a library."""

from __future__ import annotations

from klinefleet.workers.domain.errors import FleetError

#: What libraries write, and nobody else.
FOREIGN = (
    "HTTPConnectionPool",
    "Max retries",
    "Caused by",
    " object at 0x",
    "urllib3",
    "botocore",
    "Errno",
    "Error -3",
    "Expecting value",
    "not well-formed",
    "could not parse",
    "Exception",
)


def assert_plain(error: FleetError) -> None:
    """Assert that the error's line has no text of the errors it was raised from."""
    foreign, cause = [*FOREIGN], error.__cause__ or error.__context__
    while cause is not None:
        if not isinstance(cause, FleetError) and len(str(cause)) > 3:
            foreign.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    assert [text for text in foreign if text in error.reason] == [], error.reason
    assert "\n" not in error.reason
