"""Rewrites a lake of format 1: years for coarse series, days for seconds, footers that say of what.

May import: `runs`, `requests`, and `klinefleet.workers`.
Begin with `scope.py`, then `rewrite.py`.
"""
