"""Checks partitions of the lake against their footers, and samples of them against the source,
piece by piece.

May import: `runs`, `requests`.
Begin with `pieces.py`.
"""
