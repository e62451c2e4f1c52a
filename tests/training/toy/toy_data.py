"""Made-up deliveries: whether one is late depends on distance, rain and carrier."""

import datetime as dt

import numpy as np
import polars as pl

ROWS = 1500


def read(start: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    """One row an hour from `start`, the same for the same start."""
    random = np.random.default_rng(7)
    distance, rain = random.uniform(1, 100, ROWS), random.random(ROWS)
    carrier = random.choice(["bike", "van", "train"], ROWS)
    late = distance / 100 + rain + (carrier == "van") * 0.5 + random.normal(0, 0.3, ROWS) > 1.2
    return pl.DataFrame(
        {
            "time": [start + dt.timedelta(hours=place) for place in range(ROWS)],
            "distance": distance,
            "rain": [None if value < 0.05 else float(value) for value in rain],
            "carrier": carrier,
            "late": late,
        }
    ).filter(pl.col("time") < end)
