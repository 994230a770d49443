"""What a partition's footer says: which answers cover its time, and the proof of its rows.

May import: what `lake` may, and its `keys` and `candle_grid`.
Begin with `footer.py`.
"""
