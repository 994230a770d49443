"""The exchange: its REST interface, its symbols, and its archive of files. Bytes come in, checked
rows go out.

May import: `domain`, `support`, `patches`, `coordination`, `limits`, `storage`.
Begin with `rest.py` and `archive.py`; `calls` has what one HTTP call is.
"""
