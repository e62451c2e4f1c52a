"""A leased cluster as the program makes it: real engine, real Ray, real saver, from `up` to a receipt.

Slow (a Ray cluster, seven engine runs), and worth it: only here do component, manifests, provider and saver meet.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackyard_infra.provider import tagged
from toy import Stack, toy_checkout, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.ray]
PROGRAM = """
import pathlib
from stackyard.spec import load
from stackyard_infra.components.leases import Lease
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision

spec = load(pathlib.Path(__file__).parents[1] / "stacks" / "local.yaml")
supervision = Supervision("supervision", spec)
store = ArtifactStore("store", spec, supervision=supervision)
for name in spec.environment.clusters:
    Lease(name, spec, store=store, supervision=supervision)
"""
LENT = "clusters: {lab: {owner: ada, save: {every: 1h}}}\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "backend").mkdir()
    made = Stack(toy_checkout(tmp_path / "a checkout"))
    (made.folder / "infra/__main__.py").write_text(PROGRAM)
    (made.folder / "stacks/local.yaml").write_text(f"project: ../examples/toy\ntarget: local\n{LENT}")
    made.pulumi("stack", "init")
    yield made
    tagged.end(made.stack_id, grace=0)
    shutil.rmtree(made.runtime, ignore_errors=True)


def test_a_lease_comes_heals_is_refused_and_goes_with_a_receipt(stack: Stack):
    beside = stack.folder / ".stackyard/local/leases/lab"
    stack.up()
    assert "unchanged" in stack.pulumi("preview", "--expect-no-changes")
    before = json.loads((beside / "instance.json").read_text())
    (beside / "workspace/model.txt").write_text("work")

    # Everything is killed: it heals, the same instance with the same work.
    tagged.end(stack.stack_id, grace=0)
    log = stack.folder / ".stackyard/local/logs/lease-lab-saver.log"
    saves = log.read_text().count("files read")
    stack.up()
    assert json.loads((beside / "instance.json").read_text()) == before
    assert stack.running("lease-lab-head")
    assert stack.running("lease-lab-saver")
    store = stack.folder / ".stackyard/local/store"
    wait_until(lambda: log.read_text().count("files read") > saves)

    # The store is away: refused, everything goes on.
    store.rename(store.with_name("away"))
    refused = stack.failing("destroy", "--yes", "--skip-preview")
    assert "Cluster lab is not taken away" in refused
    assert stack.running("lease-lab-head")
    assert not store.exists(), "nobody made an empty one in its place"
    store.with_name("away").rename(store)

    stack.pulumi("destroy", "--yes", "--skip-preview")
    assert not beside.exists()
    assert stack.running() == set()
    assert len(list((store / "receipts/lab").iterdir())) == 1
