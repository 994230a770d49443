"""A run's state in Redis: what it asked for, what is under way, and what has come of it.

May import: `requests`, and `klinefleet.workers`.
Begin with `store.py` (a run's life) and `blocks.py` (its blocks); `keys.py` names every key.

Every move is one Lua script in `run_scripts` or `block_scripts`, or one transaction. A block's
life, who moves it on by which script, and what a kill leaves:

not begun     The planner claims it (`claim`); while another run has it, it is deferred.
              Killed before: the run's cursor stands before the block. Killed after: it is claimed.
claimed       The planner opens it (`open`), or releases it where nothing is left to do (`release`).
              Killed before: the next turn takes it up. Killed after: its messages are missed, and sent again.
fetching      Who fetches a window finishes it (`finish`); the last one makes it compacting.
              Killed before: the window is sent again. Killed after: the compaction is missed, and sent again.
compacting    Who compacts takes it (`compacting`) and closes it (`close`), or has it fetching again (`reopen`).
              Killed before: it is compacted again, twice equals once. Killed after: it is closed.
closed        Before the run ends the planner compares what it should hold with the lake. What the lake lacks is opened
              once more, and what it lacks then is told as failed. Killed before or after: it is compared again.

A run is running until `end`, which lets go of all it holds in the same step; nothing of an ended
run is written again. The lead is fenced: `lead` notes the planner's fencing number, and every write
of an earlier planner is refused. So are those of an earlier compaction, by the number that
`compacting` notes in the block. A window needs no number: it counts while it is waited for, whoever
brings it.
"""
