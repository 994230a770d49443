"""The fleet. The files here are its Celery tasks, one verb each: plan, fetch, compact, catalog,
verify.

May import: `klinefleet.workers`. Begin with `plan.py` and follow a run to `fetch.py` and
`compact.py`; people come in by `cli/` and `notebook.py`.
"""
