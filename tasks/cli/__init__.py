"""The `klines` command, a file for each subcommand.

May import: everything.
Begin with `main.py`.
"""
