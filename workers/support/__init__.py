"""General tools: settings, clock, log, metrics, retries, threads, masking of secrets.

May import: `domain`, `patches`.
Begin with `settings.py`.
"""
