"""The archive beside the exchange: a bucket of monthly and daily zips, with their checksums and
their faults.
"""
