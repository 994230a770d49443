"""The planner: dispatches missing partitions, resends lost work, and ends a run.

May import: `runs`, `requests`, `catalog_update`.
Begin with `planner.py`.
"""
