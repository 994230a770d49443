"""How results are written: rows as a table or a file, and text in columns.

May import: `klinefleet.workers`.
Begin with `text_table.py`.
"""
