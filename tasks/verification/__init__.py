"""Checks partitions against their footers, and samples of them against the source, in pieces.

May import: `runs`, `requests`.
Begin with `pieces.py`.
"""
