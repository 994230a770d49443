"""What a user asks for, parsed and checked: series, range, sources, symbols.

May import: `catalog_update`.
Begin with `request.py`.
"""
