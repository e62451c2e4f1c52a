"""What the model sees of a departure: a pure function of what is known before it, row by row.

It runs on every request, so it is one `select`: each expression more costs a few microseconds.
"""

import polars as pl


def build(frame: pl.DataFrame) -> pl.DataFrame:
    """Schedule, carrier, route and weather of each departure; as many rows, in the same order."""
    local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York")  # all origins are there
    return frame.select(
        "carrier",
        "origin",
        "destination",
        "distance",
        (local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()).alias("departure_minute"),
        local.dt.weekday().alias("weekday"),
        pl.col("scheduled_arrival_minute").alias("arrival_minute"),
        "temperature",
        "dew_point",
        "humidity",
        "wind_direction",
        "wind_speed",
        "wind_gust",
        "precipitation",
        "pressure",
        "visibility",
    )
