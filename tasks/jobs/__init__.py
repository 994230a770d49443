"""Jobs: work that a command leads itself, cut into pieces that are tasks and send results back.

May import: `runs`, `requests`, and `klinefleet.workers`.
Begin with `piece.py`, then `state.py`.
"""
