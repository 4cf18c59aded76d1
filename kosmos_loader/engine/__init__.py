"""KOSMOS-2.5 run by ourselves: the tokens of `generate`, many pages at a time."""
