"""The kinds of series, one file each, found by listing this folder. A new kind is a new file here.

May import: `markets`, `intervals`, `timestamps` beside it.
Begin with `declaration.py`, then `funding_rate.py`.
"""
