"""The field's terms as values: market, kind, interval, series, block, window, span, errors. No
input or output.

May import: nothing but itself.
Begin with `series.py`.
"""
