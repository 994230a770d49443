"""The fleet. The files here are its Celery tasks: plan, fetch, compact, catalog, verify.

May import: `klinefleet.workers`. Begin with `plan.py` and follow a run to `fetch.py` and
`compact.py`. Users enter by `cli/` and `notebook.py`.
"""
