"""Where klines rest: raw objects until they are compacted, then Parquet partitions with their coverage.

No door here: a command that only needs `files` must not wait for Polars.
"""
