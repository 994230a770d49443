"""One HTTP call: its session and its bounds, tries beside it, and what its answer means.

May import: `domain`, `support`.
Begin with `session.py`, then `answers.py`.
"""
