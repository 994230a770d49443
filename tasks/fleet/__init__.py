"""A worker's processes: lanes, their supervisor, the scheduler, metrics, status.

May import: the Celery tasks and the rooms below them.
Begin with `supervisor.py`, then `lane_worker.py`.
"""
