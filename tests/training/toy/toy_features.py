"""Features of the made-up deliveries."""

import polars as pl


def build(frame: pl.DataFrame) -> pl.DataFrame:
    """Four features of what is known before."""
    return frame.select("distance", "rain", "carrier", hour=pl.col("time").dt.hour())


def broken(frame: pl.DataFrame) -> pl.DataFrame:
    """A function with a mistake in it."""
    raise RuntimeError("no such thing as a free feature")
