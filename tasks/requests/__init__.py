"""The request of a run: its range, source and symbols, parsed and checked.

May import: `catalog_update`.
Begin with `request.py`.
"""
