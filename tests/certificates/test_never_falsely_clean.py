"""Whatever is planted, however many at once: never a clean certificate with a leak or a loss, and clean with none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from departed import (
    Departed,
    damaged_pack,
    departed,
    forged_receipt,
    longer_pack,
    missing_packs,
    no_receipt,
    other_version,
)
from stackyard.certificates import issuing, leaks
from stackyard.certificates.ledger import Ledger
from stackyard.certificates.scene import Listener, Lying, Scene, Seen

PORT, ADDRESS, SHARED = 21_000, "127.0.0.77", "/dev/shm/torch_7"
TOLD = {
    "ports": [{"name": "gcs", "port": PORT}],
    "addresses": [{"name": "lease-bench", "address": ADDRESS}],
    "shared_memory": [{"path": SHARED, "inode": 5}],
}


class Machine:
    """A machine on which things are planted one after the other."""

    def __init__(self, gone: Departed) -> None:
        self.gone = gone
        self.processes: dict[int, Seen] = {1: Seen(1, 0, "init")}
        self.listeners: list[Listener] = []
        self.lying: dict[str, Lying] = {}

    def run(self, *, parent: int = 1, files: tuple[str, ...] = (), **tags: str) -> int:
        pid = max(self.processes) + 1
        self.processes[pid] = Seen(pid, parent, "python", tags, frozenset(files))
        return pid

    def scene(self, _: Ledger) -> Scene:
        return Scene(dict(self.processes), tuple(self.listeners), dict(self.lying))


def tagged(here: Machine) -> int:
    return here.run(STACKYARD_STACK_ID=here.gone.stack_id, STACKYARD_CLUSTER=f"{here.gone.stack_id}/bench")


def saver(here: Machine) -> int:
    return here.run(STACKYARD_STACK_ID=here.gone.stack_id, STACKYARD_PROCESS="lease-bench-saver")


def child(here: Machine) -> int:
    return here.run(parent=here.run(parent=tagged(here)))


def titled(here: Machine) -> int:
    return here.run(files=(f"{here.gone.scratch}/session/logs/worker.out",))


def holding_shared(here: Machine) -> int:
    shared(here)
    return here.run(files=(SHARED,))


def port(here: Machine) -> None:
    here.listeners.append(Listener("127.0.0.1", PORT, frozenset({tagged(here)})))


def port_at_our_address(here: Machine) -> None:
    here.listeners.append(Listener(ADDRESS, PORT, frozenset({here.run()})))


def port_of_nobody(here: Machine) -> None:
    here.listeners.append(Listener("127.0.0.1", PORT))


def shared(here: Machine) -> None:
    here.lying[SHARED] = Lying("shared memory", 9, 5)


def folder(here: Machine) -> None:
    here.lying[str(here.gone.scratch)] = Lying("folder", 70, 2)


def socket(here: Machine) -> None:
    here.lying[f"{here.gone.runtime}/supervisor.sock"] = Lying("socket", 0, 3)


def other_stack(here: Machine) -> None:
    pid = here.run(STACKYARD_STACK_ID="another", STACKYARD_CLUSTER="another/bench", files=(f"{here.gone.scratch}/x",))
    here.listeners.append(Listener(ADDRESS, PORT, frozenset({here.run(parent=pid)})))


def other_ray(here: Machine) -> None:
    here.listeners.append(Listener("0.0.0.0", PORT, frozenset({here.run(files=("/tmp/ray/session/x",))})))


def other_user(here: Machine) -> None:
    here.listeners.append(Listener("127.0.0.1", PORT, frozenset(), mine=False))


def name_given_again(here: Machine) -> None:
    here.lying[SHARED] = Lying("shared memory", 9, 6)
    here.run(files=(SHARED,))


def folder_of_a_longer_name(here: Machine) -> None:
    here.run(files=(f"{here.gone.runtime}0/y",))


LEAKS: dict[str, Callable[[Machine], object]] = {
    each.__name__: each
    for each in (
        tagged,
        saver,
        child,
        titled,
        holding_shared,
        port,
        port_at_our_address,
        port_of_nobody,
        shared,
        folder,
        socket,
    )
}
STRANGERS: dict[str, Callable[[Machine], object]] = {
    each.__name__: each for each in (other_stack, other_ray, other_user, name_given_again, folder_of_a_longer_name)
}
LOSSES: dict[str, Callable[[Departed], None]] = {
    each.__name__: each
    for each in (no_receipt, forged_receipt, damaged_pack, longer_pack, missing_packs, other_version)
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Departed:
    """A cluster that went as it should."""
    made = departed(tmp_path_factory.mktemp("saved"))
    made.evacuated()
    shutil.copytree(made.lab.store, made.base / "whole")
    return made


def prepared(saved: Departed) -> Path:
    shutil.rmtree(saved.lab.store)
    shutil.copytree(saved.base / "whole", saved.lab.store)
    shutil.rmtree(saved.certificates, ignore_errors=True)
    return saved.evidence(**TOLD)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    planted=st.lists(st.sampled_from(sorted(LEAKS)), max_size=3),
    strangers=st.lists(st.sampled_from(sorted(STRANGERS)), max_size=2),
    lost=st.lists(st.sampled_from(sorted(LOSSES)), max_size=2, unique=True),
    given_up=st.booleans(),
)
def test_a_certificate_is_clean_exactly_if_nothing_leaked_and_nothing_was_lost(
    saved: Departed, planted: list[str], strangers: list[str], lost: list[str], given_up: bool
):
    here, ledger = Machine(saved), prepared(saved)
    for name in (*strangers, *planted):
        (LEAKS | STRANGERS)[name](here)
    try:
        for name in lost:
            LOSSES[name](saved)
    except (StopIteration, ValueError, IndexError):
        return  # the one loss took what the other would damage
    if given_up:
        saved.discard()
    told = issuing.certify(ledger, look=here.scene, patience=0.0).given.body
    assert bool(told.leaks) is bool(planted), told.leaks
    assert told.clean is (not planted and not lost)
    assert told.verdict == ("leaked" if planted else "clean" if not lost else "given-up" if given_up else "lost")


@given(st.lists(st.sampled_from(sorted(STRANGERS)), max_size=5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strangers_alone_are_no_leak_of_a_stack_either(saved: Departed, strangers: list[str]):
    here = Machine(saved)
    for name in strangers:
        STRANGERS[name](here)
    ledger = saved.ledger("stack", **TOLD)
    assert leaks.find(ledger, here.scene(ledger)).leaks == ()
