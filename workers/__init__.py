"""What a worker works with: the exchange, the lake, the weight budget, and the words they are
described in.

May import: no room of `tasks`.
Begin with `services.py`, which builds every client, or with `domain/`.
"""
