"""Will it fit: what a local stack needs against what this machine has, before anything starts.

Pure: the machine is an argument. Memory figures are resident sizes measured on x86-64 Linux with Ray 2.60,
rounded up; they are there to stop a stack that cannot work, not to forecast to the megabyte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stackyard.spec.leases import LeasedClusterSpec
from stackyard.spec.models import ProjectSpec

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Need:
    """One thing that will run. Memory in bytes for all `count` of them; `lasting` ones run all the time."""

    name: str
    what: str
    memory: int
    count: int = 1
    lasting: bool = True


@dataclass(frozen=True)
class Machine:
    """What there is. Bytes; `shm` is the size of /dev/shm."""

    cpus: int
    memory_available: int
    disk_available: int
    shm: int


@dataclass(frozen=True)
class Shortage:
    """Something that will not fit, and what to do about it."""

    sentence: str


def local_needs(project: ProjectSpec, clusters: Mapping[str, LeasedClusterSpec] | None = None) -> list[Need]:
    """What target `local` starts for `project`, and for the clusters that are lent beside it."""
    replicas, workers = project.serving.replicas, project.training.workers
    return [
        Need("supervisor", "starts, restarts and logs the others", 40 * MIB),
        Need("mlflow", "experiments, to look at", 500 * MIB),
        Need("controller", "decides, trains, releases", 250 * MIB),
        Need("metrics", "one Prometheus page", 100 * MIB),
        Need("haproxy", "spreads requests over replicas", 20 * MIB),
        Need("serving", "a Ray cluster for the replicas", 900 * MIB),
        Need("replicas", f"{replicas.min} to {replicas.max}, at the most", replicas.max * 400 * MIB, replicas.max),
        Need("training", f"a Ray cluster per run, {workers} worker(s)", (900 + 600 * workers) * MIB, 1, lasting=False),
        *(_leased(name, cluster) for name, cluster in (clusters or {}).items()),
    ]


def _leased(name: str, cluster: LeasedClusterSpec) -> Need:
    """Head and saver, a node for each worker, a notebook server; not what people will run on it."""
    memory = 900 + 400 * cluster.workers + (250 if cluster.notebook else 0)
    return Need(f"cluster {name}", f"lent to {cluster.owner}, {cluster.workers} worker(s), empty", memory * MIB)


def shortages(needs: Sequence[Need], machine: Machine) -> list[Shortage]:
    """What does not fit; empty when all does."""
    found = []
    memory = sum(need.memory for need in needs)
    if memory > machine.memory_available:
        found.append(
            Shortage(
                f"memory: up to {memory / GIB:.1f} GiB are needed, {machine.memory_available / GIB:.1f} GiB are free; "
                "lower serving.replicas.max or training.workers, or free memory"
            )
        )
    if machine.disk_available < 2 * GIB:
        found.append(
            Shortage(f"disk: 2 GiB are needed and {machine.disk_available / GIB:.1f} GiB are free in the checkout")
        )
    if machine.shm < 128 * MIB:
        found.append(Shortage(f"/dev/shm holds {machine.shm // MIB} MiB and Ray needs 128 MiB: enlarge it"))
    return found
