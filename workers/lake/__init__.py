"""Where klines rest: raw objects until they are compacted, then Parquet partitions with their coverage."""

from workers.lake.files import Files, open_files
from workers.lake.parquet import Partitions
from workers.lake.raw import RawEntry, RawZone

__all__ = ["Files", "Partitions", "RawEntry", "RawZone", "open_files"]
