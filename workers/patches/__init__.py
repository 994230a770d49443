"""Where a library does not do what we need: one file each, with its version and why.

May import: `domain`.
Begin with `redis_transport.py`.
"""
