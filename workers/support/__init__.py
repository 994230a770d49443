"""What any program needs: settings, clock, log, metrics, threads, masking of secrets.

May import: `domain`, `patches`.
Begin with `settings.py`.
"""
