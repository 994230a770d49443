"""How a run is led: what is wanted and not held is put under way, lost work is sent again, the end is held to the lake.

Begin with `planner.py`. It may import `tasks.runs`, the messages and `workers`, and no task.
"""
