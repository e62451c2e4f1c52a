"""What no single field of a leased cluster can promise: that it ends, that it fits here, that its work outlives it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Final

from stackyard.spec.findings import Finding, of_time_zone
from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import EnvironmentSpec
from stackyard.spec.problems import Keys
from stackyard.spec.units import duration_text

LOCAL_WORKERS: Final = 8
"""Workers of all leased clusters of a local stack: each is a Ray node on the same machine."""
OFTEN: Final = 10.0
"""Seconds: saving more often than this would only save."""


def of_environment(environment: EnvironmentSpec) -> Iterator[Finding]:
    """What is wrong with the leased clusters of an environment."""
    clusters = environment.clusters
    if clusters and not environment.store.keep:
        rule = "takes the store away with the stack, and with it what was saved of the clusters"
        yield Finding("clusters-keep", ("store", "keep"), rule, "leave it out", environment.store.keep)
    workers = 0
    for name, cluster in clusters.items():
        keys = ("clusters", name)
        yield from _times(keys, cluster)
        yield from _sizes(keys, cluster, environment.target)
        workers += cluster.workers
        if environment.target == "local" and workers > LOCAL_WORKERS >= workers - cluster.workers:
            rule = f"makes {workers} workers of leased clusters, and a local stack has at most {LOCAL_WORKERS}"
            yield Finding("workers-local", (*keys, "workers"), rule, "lower it", cluster.workers)
        if cluster.budget.money is not None and cluster.budget.hourly_price == 0:
            rule = "is a limit that nothing counts towards: no price is given"
            remedy = "write hourly_price, or leave it out"
            yield Finding("budget-price", (*keys, "budget", "money"), rule, remedy, cluster.budget.money)
    yield from _ceiling(environment)


def ended(environment: EnvironmentSpec, now: dt.datetime, extended: Mapping[str, float]) -> Iterator[Finding]:
    """Leases that are over at `now` (with a time zone): nothing may be made for them. `extended` is in seconds."""
    for name, cluster in environment.clusters.items():
        end = end_of(cluster)
        if end is not None and end + dt.timedelta(seconds=extended.get(name, 0.0)) <= now:
            keys = ("clusters", name, "lease", "end")
            rule = "is in the past, so nothing would be made for it"
            remedy = "write a later day, or take the cluster away"
            yield Finding("lease-ended", keys, rule, remedy, str(cluster.lease.end))


def end_of(cluster: LeasedClusterSpec) -> dt.datetime | None:
    """The moment (UTC) after the lease's last day, or None where it has none."""
    day = cluster.lease.end
    if day is None or day == dt.date.max:
        return None
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)


def _times(keys: Keys, cluster: LeasedClusterSpec) -> Iterator[Finding]:
    for name, value, example in (("ttl", cluster.lease.ttl, "30d"), ("idle", cluster.lease.idle, "4h")):
        if value == 0:
            yield Finding("no-time", (*keys, "lease", name), "leaves no time", f"write for example {example}")
    for index, before in enumerate(cluster.lease.warn):
        if before == 0:
            yield Finding("no-time", (*keys, "lease", "warn", index), "leaves no time", "write for example 1d")
    if cluster.lease.extend is not None and cluster.lease.extend.by == 0:
        yield Finding("no-time", (*keys, "lease", "extend", "by"), "leaves no time", "write for example 7d")
    if (hours := cluster.lease.hours) is not None:
        yield from of_time_zone((*keys, "lease", "hours", "timezone"), hours.timezone)
        first, _, last = hours.span.partition("-")
        if first == last:
            rule, remedy = "begins and ends at the same minute", "leave hours out, or write for example 07:00-20:00"
            yield Finding("hours-span", (*keys, "lease", "hours", "span"), rule, remedy, hours.span)
        for index, day in enumerate(hours.days):
            if day in hours.days[:index]:
                yield Finding(
                    "listed-twice", (*keys, "lease", "hours", "days", index), "is listed twice", "keep one", day
                )
        if not hours.days:
            yield Finding("hours-days", (*keys, "lease", "hours", "days"), "leaves no time", "name a day")
    if cluster.save.every < OFTEN:
        rule, shown = f"must be at least {duration_text(OFTEN)}", duration_text(cluster.save.every)
        yield Finding("save-often", (*keys, "save", "every"), rule, "write for example 5m", shown)


def _ceiling(environment: EnvironmentSpec) -> Iterator[Finding]:
    """One stack alone must fit under the ceiling: else one of its clusters could never be opened."""
    lent, ceiling = environment.clusters.values(), environment.ceiling
    for name, asked, most in (
        ("clusters", len(lent), ceiling.clusters),
        ("cpus", sum(each.workers * each.cpus for each in lent), ceiling.cpus),
        ("gpus", sum(each.workers * each.gpus for each in lent), ceiling.gpus),
    ):
        if most is not None and asked > most:
            rule = f"is less than the {asked} {name} of this stack's own clusters"
            yield Finding("ceiling", ("ceiling", name), rule, "raise it, or lend less", most, instead=("clusters",))


def _sizes(keys: Keys, cluster: LeasedClusterSpec, target: str) -> Iterator[Finding]:
    if target == "local" and cluster.gpus:
        rule = "must be 0 where target is local"
        yield Finding("gpus-local", (*keys, "gpus"), rule, "leave it out", cluster.gpus)
