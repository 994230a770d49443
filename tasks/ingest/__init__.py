"""From a window to a partition: what a fetch downloads and keeps, and what a compaction decodes,
settles and publishes.

May import: `runs`, `requests`.
Begin with `fetch_window.py`, then `compaction.py`.
"""
