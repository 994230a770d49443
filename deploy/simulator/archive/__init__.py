"""The archive beside the exchange: monthly and daily zips, checksums, and faults."""
