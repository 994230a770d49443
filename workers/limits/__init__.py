"""How much we may ask: the weight budget of one pool and public address, shared by every worker."""

from workers.limits.bucket import Budget, Grant, Minute, PoolState, RedisBudget, Wait, together
from workers.limits.memory import MemoryBudget
from workers.limits.patience import Patience

__all__ = ["Budget", "Grant", "MemoryBudget", "Minute", "Patience", "PoolState", "RedisBudget", "Wait", "together"]
