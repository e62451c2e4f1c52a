"""Whole stacks beside one another and beside a stranger, in a checkout that is moved, on a machine that moves.

Slow (about ten minutes), and worth it: that two stacks share nothing, that a new place of the checkout strands nothing
and that no address of the machine is built in can only be seen of real ones. The path of the checkout holds what means
something in an address: a space, `?`, `#`, `%`. One training serves all: the second stack gets a copy of the store.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from journey import CANARY, Checkout, copy_of_this_checkout, port_is_free, until
from stackyard_infra.provider import tagged
from stranger import Stranger, strangers_ray
from tally import Tally

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.engine, pytest.mark.timeout(1800)]

BEFORE, AFTER = "198.51.100.7", "203.0.113.9"
"""A machine's address before and after it changed networks; both are set aside for examples."""


@dataclass
class Home:
    """The checkout, wherever it is now, with its two stacks."""

    local: Checkout
    second: Checkout

    def move(self, name: str) -> None:
        """`mv` the checkout."""
        folder = self.local.folder.parent / name
        self.local.folder.rename(folder)
        self.local, self.second = replace(self.local, folder=folder), replace(self.second, folder=folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tally: Tally) -> Iterator[Home]:
    """Both stacks up: `local` trained its model, `second` began with a copy of it."""
    local = copy_of_this_checkout(tmp_path_factory.mktemp("lifecycle") / "a checkout? #1 100%25 & more")
    made = Home(local, replace(local, stack="second"))
    shutil.copy(local.folder / "stacks/local.yaml", local.folder / "stacks/second.yaml")
    state = local.folder / ".stackyard"
    ids = []
    for checkout in (made.local, made.second):
        said = checkout.run("pulumi", "config", "set", "--secret", "WAREHOUSE_TOKEN", CANARY, "-s", checkout.stack)
        assert said.returncode == 0, said.stderr
        if checkout is made.second:
            for folder in ("store", "keys"):
                shutil.copytree(state / "local" / folder, state / "second" / folder)
        checkout.make("up")
        ids.append(checkout.card()["stack_id"])
    yield made
    for checkout in (made.local, made.second):
        checkout.run("pulumi", "destroy", "-s", checkout.stack, "--yes", "--skip-preview")
    for stack_id in ids:
        tally.leftovers += [f"process {process.pid}" for process in made.local.processes(stack_id)]
        tagged.end(stack_id)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    with strangers_ray() as made:
        yield made


def left_of(checkout: Checkout, card: dict[str, Any], shared: set[Path]) -> list[str]:
    """What is there of a stack that was destroyed, and should not be."""
    state = checkout.folder / ".stackyard" / checkout.stack
    ports = [int(url.split(":")[2].split("/")[0]) for url in card["addresses"].values()] + card["replica_ports"]
    folders = [Path(card["runtime"]), state / "etc", state / "cache", state / "stack.json"]
    return [
        *(f"process {' '.join(process.cmdline())[:80]}" for process in checkout.processes(card["stack_id"])),
        *(f"port {port}" for port in ports if not port_is_free(port)),
        *(f"file {path}" for path in [*folders, *shared] if path.exists()),
    ]


def test_two_stacks_answer_side_by_side(stranger: Stranger, home: Home) -> None:
    champions = set()
    for checkout in (home.local, home.second):
        answer = checkout.predict()
        assert answer.status_code == 200, answer.text
        assert checkout.status()["healthy"], checkout.status()["problems"]
        champions.add(answer.headers["x-stackyard-bundle"])
    assert len(champions) == 1, "the second serves what the first trained"
    cards = home.local.card(), home.second.card()
    assert not set(cards[0]["replica_ports"]) & set(cards[1]["replica_ports"])
    assert stranger.answers()


def test_mlflow_and_the_database_lie_in_the_checkout_whatever_it_is_called(home: Home) -> None:
    state = home.local.folder / ".stackyard/local"
    assert (state / "mlflow/mlflow.sqlite").exists()
    assert (state / "db/controller.sqlite").exists()
    assert {path.name for path in home.local.folder.parent.iterdir()} == {home.local.folder.name}


def test_nothing_of_a_stack_has_the_machines_address(home: Home) -> None:
    machine = {
        address.address.partition("%")[0]
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name != "lo" and address.family in (socket.AF_INET, socket.AF_INET6)
    }
    looked_at, found = 0, []
    for checkout in (home.local, home.second):
        for process in checkout.processes(checkout.card()["stack_id"]):
            try:
                command, connections = process.cmdline(), process.net_connections("inet")
            except psutil.Error:
                continue
            looked_at += len(connections)
            where = {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.laddr}
            told = {address for address in machine if any(address in word for word in command)}
            found += [(" ".join(command)[:80], address) for address in (where & machine) | told]
    assert looked_at > 50
    assert found == []


def test_destroying_one_leaves_the_other_and_the_stranger(stranger: Stranger, home: Home, tally: Tally) -> None:
    card = home.second.card()
    shared = tagged.shared_memory(home.second.processes(card["stack_id"]))
    neighbours = {process.pid for process in home.local.processes(home.local.card()["stack_id"])}
    home.second.make("down")
    left = left_of(home.second, card, shared)
    tally.leftovers += left
    assert left == []
    assert home.local.predict().status_code == 200
    assert home.local.status()["healthy"], home.local.status()["problems"]
    still = {process.pid for process in home.local.processes(home.local.card()["stack_id"])}
    assert len(neighbours & still) > len(neighbours) / 2, "Ray's own workers come and go, the rest stays"
    assert stranger.answers()


def test_after_a_move_of_the_checkout_up_serves_the_same_model_from_the_new_place(home: Home) -> None:
    old, card = home.local.folder, home.local.card()
    champion = home.local.status()["champion"]["champion"]
    home.move("moved; ? #2 %20")
    home.local.make("up")
    assert home.local.processes(card["stack_id"]) == []
    assert not Path(card["runtime"]).exists()
    assert not old.exists()
    assert home.local.card()["stack_id"] != card["stack_id"]
    assert home.local.predict().headers["x-stackyard-bundle"] == champion
    assert [run["number"] for run in home.local.status()["runs"]] == [1], "the database moved along"
    preview = home.local.run("pulumi", "preview", "-s", "local", "--expect-no-changes", "--non-interactive")
    assert preview.returncode == 0, preview.stdout + preview.stderr
    assert home.local.run("pytest", "--version").returncode == 0, "scripts of .venv know the new place"


def test_after_a_move_of_the_checkout_down_leaves_nothing(home: Home, tally: Tally) -> None:
    old, card = home.local.folder, home.local.card()
    shared = tagged.shared_memory(home.local.processes(card["stack_id"]))
    home.move("moved again")
    home.local.make("down")
    left = left_of(home.local, card, shared)
    tally.leftovers += left
    assert left == []
    assert not old.exists()
    state = home.local.folder / ".stackyard/local"
    assert {path.name for path in state.iterdir()} == {"logs", "store", "db", "keys", "mlflow", "spool"}


@pytest.fixture
def network() -> Iterator[tuple[str, ...]]:
    """A network of its own with one card; what enters it."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
    within = ("nsenter", "-t", str(holder.pid), "-n")
    here = os.readlink("/proc/self/ns/net")
    try:
        until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != here, "a network", 5)
        for line in ("link set lo up", "link add lan type veth peer far", "link set lan up", "link set far up"):
            subprocess.run([*within, "ip", *line.split()], check=True)
    except (AssertionError, OSError, subprocess.CalledProcessError):
        holder.kill()
        pytest.skip("no network namespace can be made here")
    yield within
    holder.kill()
    holder.wait()


def set_address(within: tuple[str, ...], address: str) -> None:
    for line in (
        "addr flush dev lan",
        f"addr add {address}/24 dev lan",
        f"route replace default dev lan src {address}",
    ):
        subprocess.run([*within, "ip", *line.split()], check=True)


def test_a_changed_address_of_the_machine_breaks_nothing(home: Home, network: tuple[str, ...]) -> None:
    home.local.make("down")
    set_address(network, BEFORE)
    checkout = replace(home.local, within=network)
    checkout.make("up")
    set_address(network, AFTER)
    asks = ("stackyard", "score", "-s", "local", "--example", "3")
    done = checkout.run(*asks)
    assert done.returncode == 0, done.stdout + done.stderr
    sockets = subprocess.run([*network, "ss", "-Htan"], capture_output=True, text=True, check=True).stdout
    assert len(sockets.splitlines()) > 20
    assert BEFORE not in sockets
    # A cluster that knew itself by the old address could start no new replica.
    stack = checkout.processes(checkout.card()["stack_id"])
    replicas = [process for process in stack if "ServeReplica" in " ".join(process.cmdline())]
    replicas[0].send_signal(signal.SIGKILL)
    until(lambda: not replicas[0].is_running() or replicas[0].status() == psutil.STATUS_ZOMBIE, "a replica is dead")
    until(lambda: _two_replicas(checkout), "a new replica")
    assert checkout.run(*asks).returncode == 0
    checkout.make("down")


def _two_replicas(checkout: Checkout) -> bool:
    status = checkout.status()
    return status["healthy"] and len([replica for replica in status["replicas"] if replica["ready"]]) >= 2
