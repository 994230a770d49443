"""From a window to a partition: fetching keeps raw objects, compaction turns them into rows.

May import: `runs`, `requests`.
Begin with `fetch_window.py`, then `compaction.py`.
"""
