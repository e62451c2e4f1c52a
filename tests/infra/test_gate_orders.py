"""The real engine decides the order of steps; a gate that refuses must leave the cluster alive in each of them.

Slow (four engine runs an order), and worth it: only the real engine shows in which order it deletes. The orders are
golden; `STACKYARD_WRITE_GOLDEN=1 pytest tests/infra/test_gate_orders.py` writes them anew, never where CI is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leasehold import Leasehold, clear, leasehold

pytestmark = [pytest.mark.engine, pytest.mark.slow]
GOLDEN = Path(__file__).with_name("golden") / "gate-orders.txt"
UP, DESTROY = ("up", "--yes", "--skip-preview"), ("destroy", "--yes", "--skip-preview")
CLUSTER, GATE = ("LeasedCluster", "cluster-lab"), ("EvacuationGate", "gate-lab")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Leasehold]:
    made = leasehold(tmp_path)
    yield made
    clear(made)


def _nothing(stack: Leasehold) -> None:
    """The program asks for what there is."""


def _removal(stack: Leasehold) -> None:
    stack.wants(None)


def _renamed(stack: Leasehold) -> None:
    stack.wants("bench")


def _called_otherwise(stack: Leasehold) -> None:
    stack.wants("lab", called="bench")


def _no_program(stack: Leasehold) -> None:
    (stack.folder / "infra/__main__.py").write_text("raise SystemExit('this program no longer runs')")


# word id: (what changes in the program, the command, whose name follows each option)
ORDERS: dict[str, tuple[Callable[[Leasehold], None], tuple[str, ...], dict[str, tuple[str, str]]]] = {
    "destroy": (_nothing, DESTROY, {}),
    "destroy-without-program": (_no_program, DESTROY, {}),
    "destroy-continue-on-error": (_nothing, (*DESTROY, "--continue-on-error"), {}),
    "destroy-refresh": (_nothing, (*DESTROY, "--refresh"), {}),
    "destroy-target-with-dependents": (_nothing, (*DESTROY, "--target-dependents"), {"--target": CLUSTER}),
    "removal": (_removal, UP, {}),
    "removal-continue-on-error": (_removal, (*UP, "--continue-on-error"), {}),
    "rename": (_renamed, UP, {}),
    "replace": (_called_otherwise, UP, {}),
    "delete-before-replace": (_nothing, UP, {"--replace": CLUSTER}),
    "replace-target": (_nothing, (*UP, "--target-dependents"), {"--target-replace": CLUSTER}),
}


def _command(stack: Leasehold, command: tuple[str, ...], named: dict[str, tuple[str, str]]) -> list[str]:
    return [*command, *(word for option, who in named.items() for word in (option, stack.urn(*who)))]


QUICK = ("destroy", "removal", "delete-before-replace")
"""The orders that `make test` shows; the others are of the life-cycle suite."""


@pytest.mark.parametrize(
    "word", [pytest.param(word, marks=() if word in QUICK else pytest.mark.lifecycle) for word in ORDERS]
)
def test_a_refusing_gate_leaves_the_cluster_alive_and_an_agreeing_one_goes_first(word: str, stack: Leasehold):
    change, command, named = ORDERS[word]
    stack.up()
    work = stack.workspace() / "model.txt"
    work.write_text("unreadable")
    before = stack.record()
    stack.steps()
    change(stack)
    said = stack.failing(*_command(stack, command, named))
    refused = stack.steps()
    assert "model.txt: it cannot be read" in said
    assert 'stackyard evacuate lab --discard --because "..." -s local' in said
    assert "Traceback" not in said
    assert work.read_text() == "unreadable"
    assert stack.record() == before, "it goes on as it was"
    assert "delete cluster lab" not in refused

    work.write_text("mended")
    stack.pulumi(*_command(stack, command, named))
    agreed = stack.steps()
    assert agreed.index("delete gate lab") < agreed.index("delete cluster lab")
    assert not work.exists()
    receipts = [path.name for path in (stack.store / "receipts").iterdir()]
    assert receipts == [f"{before['instance']}-{before['generation']}.json"]
    _as_known(word, refused, agreed)


def test_what_the_engine_refuses_by_itself_reaches_neither(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    stack.steps()
    stack.failing(*_command(stack, DESTROY, {"--target": CLUSTER}))
    assert stack.steps() == []
    stack.pulumi(*_command(stack, DESTROY, {"--exclude": GATE}))
    assert stack.steps() == [], "an excluded gate keeps the cluster that it depends on"
    assert (stack.workspace() / "model.txt").read_text() == "work"


def test_a_gate_alone_seals_and_the_next_up_opens_again_with_another_generation(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    stack.pulumi(*_command(stack, DESTROY, {"--target": GATE}))
    assert stack.record()["sealed"]
    sealed = stack.record()
    assert "1 created" in stack.up()
    assert stack.record() == sealed | {"sealed": False, "generation": sealed["generation"] + 1}
    assert (stack.workspace() / "model.txt").read_text() == "work"


def test_work_after_the_receipt_stops_the_clusters_own_delete(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    stack.pulumi(*_command(stack, DESTROY, {"--target": GATE}))
    (stack.workspace() / "late.txt").write_text("somebody worked on")
    said = stack.failing(*DESTROY)
    assert "without a valid receipt or discard" in said
    assert "late.txt: it is newer than the newest version" in said
    stack.up()
    stack.pulumi(*DESTROY)
    assert not stack.workspace().exists()


def test_a_cluster_whose_gate_was_struck_from_the_state_is_not_taken_away(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    stack.pulumi("state", "delete", stack.urn(*GATE), "--yes")
    said = stack.failing(*DESTROY)
    assert "without a valid receipt or discard" in said
    assert (stack.workspace() / "model.txt").read_text() == "work"
    stack.evacuation("discard", "--because", "a drill")
    stack.pulumi(*DESTROY)
    assert not stack.workspace().exists()


def test_a_discard_lets_exactly_this_generation_go(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("unreadable")
    stack.evacuation("discard", "--because", "a drill")
    stack.pulumi(*_command(stack, DESTROY, {"--target": GATE}))
    stack.up()
    stack.failing(*DESTROY)
    stack.evacuation("discard", "--because", "meant this time, too")
    stack.pulumi(*DESTROY)
    assert not stack.workspace().exists()


def test_a_cluster_that_the_state_forgot_is_adopted_with_its_work(stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("work")
    before = stack.record()
    for who in (GATE, CLUSTER):
        stack.pulumi("state", "delete", stack.urn(*who), "--yes")
    stack.up()
    assert (stack.workspace() / "model.txt").read_text() == "work"
    assert stack.record() == before | {"generation": before["generation"] + 1}


@pytest.mark.lifecycle
@pytest.mark.parametrize("lost", ["instance.json", "evacuation.json", "processes.json", "lease.json"])
def test_a_cluster_with_a_file_lost_is_unsaved_and_not_absent(lost: str, stack: Leasehold):
    stack.up()
    (stack.workspace() / "model.txt").write_text("unreadable")
    (stack.workspace().parent / lost).unlink()
    stack.failing(*DESTROY)
    (stack.workspace() / "model.txt").write_text("mended")
    stack.up()
    assert (stack.workspace() / "model.txt").read_text() == "mended"
    stack.pulumi(*DESTROY)
    assert not stack.workspace().exists()


def _as_known(word: str, refused: list[str], agreed: list[str]) -> None:
    """The orders of all commands are one golden file, a section each."""
    section = f"{word}\n  refused: {', '.join(refused)}\n  agreed: {', '.join(agreed)}"
    known = dict(_sections())
    if os.environ.get("STACKYARD_WRITE_GOLDEN"):
        assert not os.environ.get("CI"), "a golden file is made by a person who reads the difference, never by CI"
        known[word] = section
        GOLDEN.write_text("\n\n".join(known[each] for each in ORDERS if each in known) + "\n")
    assert known.get(word) == section


def _sections() -> list[tuple[str, str]]:
    text = GOLDEN.read_text().strip() if GOLDEN.exists() else ""
    return [(part.partition("\n")[0], part) for part in text.split("\n\n") if part]
