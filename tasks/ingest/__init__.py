"""From raw objects to partitions: what a compaction decodes, asks again, settles and publishes.

Begin with `compaction.py`. It may import `tasks.runs`, the messages and `workers`, and no task.
"""
