"""What any program needs: settings, clock, log, metrics, threads, masking of secrets.

May import: `domain`.
Begin with `settings.py`.
"""
