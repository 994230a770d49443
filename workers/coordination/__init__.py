"""How processes know of each other through Redis: heartbeats, leases, Redis's clock, the private
Redis.

May import: `domain`, `support`, `patches`.
Begin with `leases.py`.
"""
