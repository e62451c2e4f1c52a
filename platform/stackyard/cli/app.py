"""The verbs, their options, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="stackyard",
    help="From one typed spec: a training cluster, a serving cluster, and the loop between them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Snapshots and checks of the project's data.", no_args_is_help=True)
labels = typer.Typer(help="Truths of predictions that were made.", no_args_is_help=True)
audit = typer.Typer(
    help="The log of what was done to the model, or a leased cluster: by whom and why.", no_args_is_help=True
)
certificate = typer.Typer(help="What was left when a stack or a leased cluster was destroyed.", no_args_is_help=True)
for part, name in ((data, "data"), (labels, "labels"), (audit, "audit"), (certificate, "certificate")):
    app.add_typer(part, name=name)

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, a file stacks/<stack>.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
BecauseOption = Annotated[str, typer.Option("--because", help="The reason, which others will read.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A run's number (7 or v7), or the beginning of its id or a digest.")
]


@app.command()
def status(
    stack: StackOption = "local",
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, live, until Ctrl-C.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, with progress, until a champion answers.")] = False,
) -> None:
    """What runs, what is live, what was decided and why, and what is unhealthy."""
    from stackyard.cli import status as verb

    verb.run(stack, as_json=as_json, watch=watch, wait=wait)


@app.command()
def score(
    file: Annotated[Path | None, typer.Argument(help="JSON lines, one row each; - for standard input.")] = None,
    stack: StackOption = "local",
    as_json: JsonOption = False,
    example: Annotated[int, typer.Option(help="Score this many sample rows of the champion instead.", min=0)] = 0,
    window: Annotated[
        str | None, typer.Option(help="Evaluate the champion on labelled rows: 2013-03-01:2013-04-01.")
    ] = None,
) -> None:
    """Ask the live service for predictions, or measure the champion on a window of labelled data."""
    from stackyard.cli import score as verb

    verb.run(file, stack, as_json=as_json, example=example, window=window)


@data.command("check")
def data_check(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Read the window and check it against the spec's columns; exit 1 with a table of all violations."""
    from stackyard.cli import data as verb

    verb.check(stack, as_json=as_json)


@data.command("snapshots")
def data_snapshots(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """The snapshots in the store."""
    from stackyard.cli import data as verb

    verb.show(stack, as_json=as_json)


@data.command("release")
def data_release(day: str, because: BecauseOption, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Believe the quarantined data of DAY (2013-05-01) after all."""
    from stackyard.cli import wishes

    wishes.release_day(stack, day, because, as_json=as_json)


@labels.command("import")
def labels_import(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON lines: request_id, label, and row if not 0.")],
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Take the labels of FILE as received now; exit 1 when lines of it hold none, the others are taken."""
    from stackyard.cli import labels as verb

    verb.run(file, stack, as_json=as_json)


@app.command()
def replay(
    stack: StackOption = "replay",
    until: Annotated[
        str | None, typer.Option(help="The day to stop before: 2013-07-01. Absent: the data's end.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="Stop after so many more days.", min=0)] = None,
    sample: Annotated[float, typer.Option(help="Share of each day's rows, chosen by hash.", min=1e-6, max=1.0)] = 1.0,
    report: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default=".stackyard/STACK/replay/report.html")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Live through the days after the first model's data: rows as requests, truths later, the loop at work.

    It may be ended at any moment and goes on from there. The last line is one JSON object.
    """
    from stackyard.cli import replay as verb

    verb.run(stack, until=until, days=days, sample=sample, report=report, as_json=as_json)


@app.command()
def history(stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Every model that was made and every Release, with reasons."""
    from stackyard.cli import history as verb

    verb.run(stack, as_json=as_json)


@app.command()
def why(version: VersionArgument, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """The whole story of one version: cause, data, gates check by check, stages, end."""
    from stackyard.cli import history as verb

    verb.why(stack, version, as_json=as_json)


@app.command()
def approve(
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="The version that you looked at.")] = None,
    stack: StackOption = "local",
    key: Annotated[
        Path | None, typer.Option(help="Your private key.", show_default="~/.config/stackyard/approver.key")
    ] = None,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print your public key, making one if absent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a candidate's bundle, gate report and plan; whatever changes of them voids the signature."""
    from stackyard.cli import approve as verb

    verb.run(version, stack, key=key, show_key=show_key, as_json=as_json)


@app.command()
def reject(
    version: VersionArgument, because: BecauseOption, stack: StackOption = "local", as_json: JsonOption = False
) -> None:
    """See that a candidate never becomes champion; final."""
    from stackyard.cli import wishes

    wishes.reject(stack, version, because, as_json=as_json)


@app.command()
def promote(
    version: VersionArgument,
    because: BecauseOption = "promoted by hand",
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Make a candidate champion without waiting for its stages; it needs its gates and approvals all the same."""
    from stackyard.cli import wishes

    wishes.promote(stack, version, because, as_json=as_json)


@app.command()
def rollback(
    because: BecauseOption,
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="An earlier champion.")] = None,
    stack: StackOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Take the challenger back while one is rolled out, else return to the champion before."""
    from stackyard.cli import wishes

    wishes.rollback(stack, to, because, as_json=as_json)


@app.command()
def train(because: BecauseOption, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Ask for a retraining; triggers, cooldown and breaker do not hold it, budget and quiet hours do."""
    from stackyard.cli import wishes

    wishes.train(stack, because, as_json=as_json)


@app.command()
def pause(because: BecauseOption, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Begin no retraining and no rollout until `resume`; predictions and rollbacks go on."""
    from stackyard.cli import wishes

    wishes.pause(stack, because, as_json=as_json)


@app.command()
def resume(
    because: BecauseOption = "the pause is over", stack: StackOption = "local", as_json: JsonOption = False
) -> None:
    """End a pause."""
    from stackyard.cli import wishes

    wishes.resume(stack, because, as_json=as_json)


AuditedOption = Annotated[
    str | None, typer.Option("--cluster", help="A leased cluster, gone or not: who suspended it, or gave it up.")
]


@audit.command("verify")
def audit_verify(cluster: AuditedOption = None, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Check that the log is one unbroken chain and holds every head that a Release was signed with."""
    from stackyard.cli import audit as verb

    verb.verify(stack, cluster, as_json=as_json)


@audit.command("show")
def audit_show(cluster: AuditedOption = None, stack: StackOption = "local", as_json: JsonOption = False) -> None:
    """Print the log."""
    from stackyard.cli import audit as verb

    verb.show(stack, cluster, as_json=as_json)


CertificateArgument = Annotated[
    str, typer.Argument(metavar="CERTIFICATE|latest", help="Its name, its file or its place in the store.")
]


@certificate.command("show")
def certificate_show(
    which: CertificateArgument = "latest", stack: StackOption = "local", as_json: JsonOption = False
) -> None:
    """What was looked for and found, how long it was up, what it used and cost. Works after `destroy`."""
    from stackyard.cli import certificate as verb

    verb.show(stack, which, as_json=as_json)


@certificate.command("verify")
def certificate_verify(
    which: CertificateArgument = "latest", stack: StackOption = "local", as_json: JsonOption = False
) -> None:
    """Check its signature, and again that all is gone and that the store holds what was saved; exit 1 if not."""
    from stackyard.cli import certificate as verb

    verb.verify(stack, which, as_json=as_json)
