"""Reading the lake: the `Reader`, SQL, resampling and a disk cache. No Redis, no exchange.

May import: `domain`, `support`, `storage`, `lake`.
Begin with `reader.py`.
"""
