"""Changes to libraries: one file each, with the library's version and the reason.

May import: `domain`.
Begin with `redis_transport.py`.
"""
