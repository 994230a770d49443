"""Reports what the lake holds and lacks, and why: as data, text, PNG chart and HTML page.

A hole is a part of a series' time without rows (`MissingSpan`); each has a reason.

May import: `runs`, `requests`.
Begin with `build.py`.
"""
