"""`stackyard score`: predictions from the live service, or the champion measured on labelled data."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from stackyard.cli.failures import USAGE, Failure
from stackyard.cli.stack import StackCard, find, open_store, spec
from stackyard.data.errors import DataError
from stackyard.store import bundles, layout, releases
from stackyard.store.documents import DocumentError
from stackyard.store.objects import DigestMismatchError, Store

ROWS_PER_REQUEST = 100


def run(file: Path | None, stack: str, *, as_json: bool, example: int, window: str | None) -> None:
    """Score a file, sample rows, or a labelled window: exactly one of them. Raises Failure."""
    if sum((file is not None, example > 0, window is not None)) != 1:
        raise Failure("score takes exactly one of FILE, --example N and --window FROM:TO", USAGE)
    card = find(stack)
    if window is not None:
        return _evaluate(card, stack, window, as_json)
    if file is None:
        return _example(card, example, as_json)
    for answer in _ask(card, _rows(file)):
        print(json.dumps(answer))
    return None


def _example(card: StackCard, count: int, as_json: bool) -> None:
    store, release = _champion(card)
    try:
        entry = bundles.manifest(store, release.champion)["files"]["golden.json"]
        golden = json.loads(store.read(layout.bundle_file(release.champion, "golden.json"), digest=entry["sha256"]))
    except (bundles.BundleError, DigestMismatchError, KeyError) as error:
        raise Failure(f"the champion's sample rows cannot be read: {error}") from None
    rows = golden["inputs"][:count]
    started = time.perf_counter()
    answers = list(_ask(card, rows))
    took = time.perf_counter() - started
    if as_json:
        print(json.dumps([{"inputs": row, "prediction": answer} for row, answer in zip(rows, answers, strict=True)]))
        return
    varying = [name for name in rows[0] if len({str(row[name]) for row in rows}) > 1][:5]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (*varying, "prediction"):
        table.add_column(name, header_style="dim")
    for row, answer in zip(rows, answers, strict=True):
        table.add_row(*(str(row[name]) for name in varying), _short(answer))
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} predictions by bundle {release.champion[:12]} in {1000 * took:.0f} ms", highlight=False)


def _champion(card: StackCard) -> tuple[Store, releases.Release]:
    store = open_store(card)
    try:
        release = releases.newest(store, card.model, card.public_keys)
    except DocumentError as error:
        raise Failure(str(error)) from None
    if release is None:
        raise Failure("no champion yet: `stackyard status --wait` waits for one")
    return store, release


def _short(answer: Any) -> str:
    if isinstance(answer, dict):
        return ", ".join(f"{name} {_short(value)}" for name, value in answer.items())
    return f"{answer:.3f}" if isinstance(answer, float) else str(answer)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Failure(f"{file}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise Failure(f"{file}:{number}: a row is an object of named inputs")
        yield row


def _ask(card: StackCard, rows: Iterable[dict[str, Any]]) -> Iterator[Any]:
    with httpx.Client(timeout=30, trust_env=False) as client:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == ROWS_PER_REQUEST:
                yield from _post(client, card, batch)
                batch = []
        if batch:
            yield from _post(client, card, batch)


def _post(client: httpx.Client, card: StackCard, batch: list[dict[str, Any]]) -> list[Any]:
    try:
        response = client.post(card.addresses["predict"], json={"instances": batch})
    except httpx.HTTPError as error:
        raise Failure(f"{card.addresses['predict']} does not answer: {error}") from None
    if len(batch) > 1 and _too_much(response):
        half = len(batch) // 2
        return _post(client, card, batch[:half]) + _post(client, card, batch[half:])
    if response.status_code != 200:
        raise Failure(f"the service answered {response.status_code}: {response.text.strip()}")
    return response.json()["predictions"]


def _too_much(response: httpx.Response) -> bool:
    """Whether fewer rows at once may be answered: the spec's `body_limit` or `rows_limit` is below our own."""
    if response.status_code == 422:
        return any(problem.get("path") == "instances" for problem in response.json().get("problems", ()))
    return response.status_code == 413


def _evaluate(card: StackCard, stack: str, window: str, as_json: bool) -> None:
    from stackyard.spec.models import WindowSpec
    from stackyard.training.evaluate import evaluate
    from stackyard.training.recipe import RecipeError

    start, _, end = window.partition(":")
    try:
        span = WindowSpec.model_validate_json(json.dumps({"start": start, "end": end}))
    except ValueError:
        raise Failure(
            f"--window {window}: two dates, the second excluded, for example 2013-03-01:2013-04-01", USAGE
        ) from None
    found = spec(stack)
    store, release = _champion(card)
    try:
        figures = evaluate(
            store, release.champion, found.project, found.project_folder, span, cache=Path(card.runtime) / "cache"
        )
    except (DataError, bundles.BundleError, RecipeError) as error:
        raise Failure(str(error)) from None
    if as_json:
        print(json.dumps({"bundle": release.champion, "window": window, "metrics": figures}))
        return
    Console().print(f"bundle {release.champion[:12]} on {start} to {end} (excluded)", highlight=False)
    for name, value in figures.items():
        Console().print(
            f"  {name:12} {value:.4f}" if isinstance(value, float) else f"  {name:12} {value}", highlight=False
        )
