"""The lake's own files: raw objects, Parquet partitions, their footers and proofs, catalogs.

May import: `domain`, `support`, `patches`, `coordination`, `limits`, `storage`.
Begin with `keys.py`, then `partitions.py`.
"""
