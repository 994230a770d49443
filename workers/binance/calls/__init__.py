"""One HTTP call: its session and its bounds, tries beside it, and what its answer means.

May import: `domain`.
Begin with `session.py`, then `answers.py`.
"""
