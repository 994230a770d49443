"""A stand-in for the exchange's REST interface and archive, offline.

See `python -m deploy.simulator --help`.

It knows nothing of the client and the client nothing of it: they meet on the wire only.

    server          one port: the routes of three markets, and /sim
    market_routes   what a market answers        control        what a test reads and changes
    windows         which candles a call means   refusals       every error body
    books           weight, 429, 418, bans       faults         which calls go wrong, and how often
    source          where candles come from      replay         recorded files instead
    candles         their numbers                timeline       which of them exist
    truth           what a lake without a fault must hold

A new kind of data is a class like MarketRoutes with its own `add_to(app)`, listed in
`server.build_app`.
"""

from deploy.simulator.truth import truth

__all__ = ["truth"]
