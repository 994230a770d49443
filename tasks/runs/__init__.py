"""A run's state in Redis: its request, the work in flight, and what has come of it.

May import: `requests`, and `klinefleet.workers`.
Begin with `store.py` (the run) and `partitions.py` (its partitions).
`workers/domain/redis_keys.py` names every key.

Every change is one Lua script of `lua/runs` or `lua/partitions`, or one transaction. The
phases of a partition, the script that ends each, and what happens after a kill:

not begun     The planner claims the partition (`claim`); if another run has it, it is deferred.
              Killed before: the run's cursor still points at it. Killed after: it is claimed.
claimed       The planner opens it (`open`), or releases it if nothing is missing
              (`release_unneeded`).
              Killed before: the next plan task takes it up. Killed after: its messages were never
              sent; they count as lost and are sent again.
fetching      A fetch task finishes each window (`finish_window`); the last one starts compaction.
              Killed before: the window is sent again. Killed after: the compaction is sent again.
compacting    A compact task takes the partition (`begin_compaction`), then closes it (`close`) or
              sends it back to fetching (`reopen`).
              Killed before: it is compacted again, to the same result. Killed after: it is closed.
closed        Before the run ends, the planner compares the request with the lake. A partition
              that the lake lacks is opened once more; what it lacks then is recorded as failed.
              Killed before or after: the comparison is made again.

A run is running until `end`, which releases all that it holds in the same step. Nothing is written
to a run that has ended.

Two kinds of writer are fenced, so that a process that stood still cannot write after its successor:
the planner by the number that `take_lead` stores with the run, a compaction by the number that
`begin_compaction` stores with the partition. A window needs no fence: it counts once, while it is
pending, whoever fetched it.

`sent_us` is the Redis time in µs at which a task's message entered its queue. It stands in the
message's header and in the run's state, and `lost_work.py` compares the two.
"""
