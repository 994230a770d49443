"""What the lake holds and lacks, and why: as data, text, picture and page.

May import: `runs`, `requests`.
Begin with `build.py`.
"""
