"""Which source answers for which time, and which row wins where sources disagree.

May import: every room of `workers` but `reader`.
Begin with `choice.py`.
"""
