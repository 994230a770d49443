"""Limits on calls to the exchange: the weight budget of a pool and public address, shared by all
workers, and the number of calls in flight.

May import: `domain`, `support`, `patches`, `coordination`.
Begin with `budget.py`; the budget itself is `redis_budget.py` with its Lua scripts.
"""
