"""Opening an object store by its URL."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

from klinefleet.workers.domain.errors import SettingsError
from klinefleet.workers.domain.stores import parse_store_url
from klinefleet.workers.storage.folder import FolderStore
from klinefleet.workers.storage.objects import ObjectStore
from klinefleet.workers.storage.s3 import S3Store, new_s3_filesystem, s3_filesystem
from klinefleet.workers.support.masking import mask_url


def open_store(store_url: str, *, sleep: Callable[[float], None] = time.sleep) -> ObjectStore:
    """Return the store at a folder or s3://bucket/prefix, without connecting to it.

    SettingsError for a URL that is neither.
    """
    try:
        store_url = parse_store_url("the store's URL", store_url)
    except SettingsError as error:
        raise SettingsError(mask_url(store_url, str(error))) from None
    if not store_url.startswith("s3://"):
        return FolderStore(
            fsspec.filesystem("file", auto_mkdir=True), str(Path(store_url).absolute()), sleep=sleep
        )

    def open_s3(open_filesystem: Callable[..., Any]) -> Any:
        # One GET or PUT per object: partitions are small, and a conditional write must be one.
        fs = open_filesystem(max_concurrency=1, use_listings_cache=False)
        fs.retries = 1
        return fs

    root = store_url.removeprefix("s3://")
    return S3Store(
        open_s3(s3_filesystem), root, reopen=partial(open_s3, new_s3_filesystem), sleep=sleep
    )
