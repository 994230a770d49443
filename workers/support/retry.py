"""All retry policies: how often a call is tried, and how long to wait between two tries.

The caller decides which errors are worth another try. Waits are random up to a growing limit, so
that many callers of one server do not return at the same moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `tries` tries, with random waits between them."""

    tries: int
    max_pause_s: float
    """Upper limit of the last waits."""
    first_pause_s: float = 0.25
    """Upper limit of the first wait; it doubles with each try."""
    longest_s: float = math.inf
    """No try begins later than this after the first one."""

    def retrying(
        self,
        may_recover: Callable[[BaseException], bool],
        *,
        sleep: Callable[[float], None] = time.sleep,
        before_sleep: Callable[[RetryCallState], None] | None = None,
    ) -> Retrying:
        """Return a caller of functions that retries them, and raises the last error in the end.

        may_recover: whether an error is worth another try.
        """
        options: dict[str, Any] = {"before_sleep": before_sleep} if before_sleep else {}
        return Retrying(
            retry=retry_if_exception(may_recover),
            stop=stop_after_attempt(self.tries) | stop_before_delay(self.longest_s),
            wait=wait_random_exponential(multiplier=self.first_pause_s, max=self.max_pause_s),
            sleep=sleep,
            reraise=True,
            **options,
        )


#: One call to the object store or folder.
STORE = RetryPolicy(6, 5.0, first_pause_s=0.1)
#: One listing of the archive.
ARCHIVE_LISTING = RetryPolicy(4, 5.0)
#: One file of the archive: fewer tries than a page, since another source can replace it.
ARCHIVE_FILE = RetryPolicy(3, 10.0)
#: One REST page; waiting after a 429 or 418 is no try.
REST_PAGE = RetryPolicy(6, 10.0)
#: What a command asks the exchange before it begins.
FIRST_QUESTION = RetryPolicy(5, 3.0, first_pause_s=0.5, longest_s=10.0)
#: One request about a symbol while a catalog is built.
CATALOG = RetryPolicy(4, 5.0)
#: One file or page that a verification compares the lake with.
VERIFICATION = RetryPolicy(4, 5.0)
