"""What people read the lake with: a `Reader`, SQL, coarser candles, a cache on this machine. No
Redis, no exchange.

May import: `domain`, `support`, `storage`, `lake`.
Begin with `reader.py`.
"""
