"""The field's terms as values: market, kind, interval, series, partition, window, span, errors.

May import: nothing but itself; nothing here does input or output.
Begin with `series.py`, then `kinds/`.
"""
