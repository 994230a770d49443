"""The picture of coverage: `grid` says what is drawn, `png` and `page` draw it."""
