"""What do users notice of a bad challenger or a poisoned month, and how soon is it over?

    python benchmarks/drills.py [NAME ...] [--json] [--list]

Challengers: two real replicas behind HAProxy, the real controller and its worker, 40 requests a second of one parcel
each, in a canary of 10 % and in a shadow; quality drills play days of 152 requests of 45 parcels, labels a day later.
Months: real flights of April to June 2013 with one poison in May. Only training is played. About five minutes.
Exit 1 if a user got an error, a challenger outlived its Release, or a poisoned row reached a snapshot.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import drilling
import spoiling
from drilled import Outcome
from drillground import Ground
from winter import Winter

NAMES = (*dict.fromkeys(drill for drill, _ in drilling.HARM), *drilling.QUALITY, *spoiling.POISONS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(NAMES)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--list", action="store_true", help="print the drills' names")
    options = parser.parse_args()
    if options.list:
        print("\n".join(NAMES))
        return
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no drill is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with redirect_stdout(sys.stderr):  # what the service logs is none of the result
        challengers = [*_challengers(options.names)]
        months = [*_months(options.names)]
    if options.json:
        plain = {"challengers": [asdict(one) for one in challengers], "months": [asdict(one) for one in months]}
        print(json.dumps(plain, default=str))
    else:
        console = Console(width=180)
        for table in (_of_challengers(challengers), _of_months(months)):
            if table.row_count:
                console.print(table)
    broken = [one for one in challengers if one.failed or one.later] + [one for one in months if one.taught]
    sys.exit(1 if broken else 0)


def _challengers(names: Sequence[str]) -> Iterator[Outcome]:
    wanted = [*drilling.every(names)]
    if not wanted:
        return
    ground = Ground()
    drills = drilling.Drills(ground)
    try:
        for drill in wanted:
            found = drill(drills)
            print(f"{found.drill} ({found.stage}): {found.reason}", file=sys.stderr, flush=True)
            yield found
    finally:
        drills.close()
        ground.close()


def _months(names: Sequence[str]) -> Iterator[spoiling.Found]:
    wanted = [name for name in spoiling.POISONS if not names or name in names]
    winter = Winter.learnt() if wanted else None
    for name in wanted:
        assert winter is not None
        with tempfile.TemporaryDirectory(prefix="sy-spoilt-") as folder:
            found = spoiling.Spring(Path(folder), winter, name).live()
        print(f"{found.drill}: {found.told[0]}", file=sys.stderr, flush=True)
        yield found


def _of_challengers(found: Sequence[Outcome]) -> Table:
    heads = ("challenger", "stage", "end", "requests until then", "asked of it", "answered by it", "errors users saw")
    table = _table(*heads, "wrong answers users saw", "its answers afterwards", "first fault to its end")
    for one in found:
        lasted = f"{one.days:g} days" if one.seconds is None else f"{one.seconds:.1f} s"
        counts: list[Any] = [one.requests, one.tried, f"{one.exposed} ({one.share:.1%})", one.failed, one.wrong]
        table.add_row(one.drill, one.stage, one.ended, *map(str, counts), str(one.later), lasted)
    return table


def _of_months(found: Sequence[spoiling.Found]) -> Table:
    heads = ("month", "first day shut", "known at midnight of", "requests until then", "days shut of 31")
    table = _table(*heads, "sound days shut", "poisoned rows learnt", "messages to the owner")
    for one in found:
        counts = (one.requests, one.quarantined, one.sound, one.taught, len(one.told))
        table.add_row(one.drill, str(one.day), str(one.known.date()), *map(str, counts))
    return table


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, header_style="dim")
    return table


if __name__ == "__main__":
    main()
