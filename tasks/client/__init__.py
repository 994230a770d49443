"""What a command does at the fleet: checks before it queues, follows a run, fetches for a reader,
repairs.

May import: every room of `tasks` but `cli` and `fleet`'s lanes.
Begin with `session.py`.
"""
