"""How a run is led: missing blocks are put under way, lost work is sent again, the end is held to
the lake.

May import: `runs`, `requests`, `catalog_update`.
Begin with `planner.py`.
"""
