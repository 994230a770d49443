"""Makes a market's catalog from exchangeInfo, the archive's listing and first candles.

May import: `klinefleet.workers`.
Begin with `build.py`.
"""
