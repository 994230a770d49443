"""Object stores, a folder or an S3 bucket: read, list, put, replace if unchanged.

May import: `domain`, `support`, `patches`, `coordination`.
Begin with `objects.py`.
"""
