"""Coordination of processes: heartbeats, leases, Redis's clock, health files, the private Redis.

May import: `domain`, `support`, `patches`.
Begin with `leases.py`.
"""
