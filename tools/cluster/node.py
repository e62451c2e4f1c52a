"""Profile `node`: a real node on this machine, in namespaces of its own, joined to the machine by one link."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from cluster import (
    addresses,
    api,
    binaries,
    cgroups,
    credentials,
    daemons,
    folders,
    images,
    lock,
    processes,
    profiles,
    rendering,
    roots,
    steps,
)
from cluster.addresses import Addresses
from cluster.folders import Home
from machine import places, say

_MODULES = (*profiles.CONTROL_PLANE, "coredns")
_PROGRAMS = ("ip", "unshare", "nsenter", "mount", "pivot_root", "chroot", "tar", "nice")
_KERNEL = ("overlay", "br_netfilter", "nf_conntrack", "nf_tables", "veth")
_LINK_SECONDS = 5.0
_WHERE = daemons.Places(
    settings="/stackyard/settings",
    credentials="/stackyard/credentials",
    data="/stackyard/data",
    programs={name: f"/stackyard/bin/{name}" for name in _MODULES},
)


def able() -> None:
    """End the command, saying what to do instead, on a machine where no node can be."""
    instead = "use kind, k3s or any real cluster instead (name its kubeconfig in your stack)"
    if os.geteuid() != 0:
        say.stop(f"a node with real containers needs root: run it with sudo, take the profile kwok, or {instead}.")
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=_path())]
    if missing:
        say.stop(f"not on this machine: {', '.join(missing)} (util-linux, iproute2): install it, or {instead}.")
    for module in _KERNEL:
        # Most kernels have them built in or loaded; whether they are there shows below and in the logs.
        subprocess.run(["modprobe", "--quiet", module], capture_output=True) if shutil.which("modprobe") else None
    if "overlay" not in Path("/proc/filesystems").read_text():
        say.stop(f"this kernel has no overlay file system, without which no container starts: {instead}.")


def up(home: Home, asked: str | None) -> None:
    """Bring the node up, or back; at once when it is there. Call under `only_one`."""
    record = profiles.record(home)
    first = processes.first_of_namespace(home.tag)
    if record and asked and record["block"] != asked:
        say.stop(f"this cluster has the addresses {record['block']}: `make cluster-down` first, then choose others.")
    if not record or not first:
        stop(home)
        first = None
        _refuse_another(home)
    block: str | None = record["block"] if record else asked
    # A running node's own addresses are of course in use.
    chosen = (
        addresses.cut(record["block"]) if first and record else addresses.choose(block, addresses.of_this_machine())
    )
    texts = _texts(chosen)
    digest = profiles.made_of(_MODULES, texts, images.target().name)
    if record and record["made_of"] != digest:
        profiles.differ(bool(first))
        return
    if not first:
        with places.only_one(profiles.making(), "building what clusters are made of"):
            binaries.build(profiles.modules(_MODULES), home.logs)
            roots.make(home.logs)
            images.make(home.logs)
        first = _start(home, chosen, texts, digest)
    link(home, chosen, first)
    _wait(home, chosen, first)


def stop(home: Home) -> None:
    """End all that runs of it; its data stays. Does nothing where nothing runs."""
    groups = cgroups.of(home.name)
    record = profiles.record(home) or {}
    if not processes.end(processes.tagged(home.tag)):
        say.stop(f"processes of the cluster do not end: {processes.tagged(home.tag)}", steps.FAILED)
    left = cgroups.remove(groups, record.get("allowed", []))
    if left:
        say.stop(f"control groups are still in use: {', '.join(map(str, left))}", steps.FAILED)
    end = time.monotonic() + _LINK_SECONDS
    while record and _link_there(home):
        # It goes with the node's network, which the kernel takes apart a moment after its last process.
        if time.monotonic() > end:
            _ip("link", "delete", home.name)
        time.sleep(0.05)


def down(home: Home) -> None:
    """End it and remove it."""
    stop(home)
    profiles.forget(home)


def load(home: Home, archive: Path) -> None:
    """Have the node's containerd take in an archive of images."""
    first = processes.first_of_namespace(home.tag)
    if not first:
        say.stop("no node runs: `make cluster` makes one.")
    if not archive.is_file():
        say.stop(f"{archive} is not a file.")
    # All namespaces of its own: a layer is unpacked by mounting it.
    inside = ["nsenter", "--target", str(first), "--all", "--wd=/"]
    command = [*inside, "ctr", "--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", "-"]
    with archive.open("rb") as data:
        done = subprocess.run(command, stdin=data, capture_output=True, text=True)
    if done.returncode:
        say.stop(f"{archive} could not be taken in: {done.stderr.strip()[-500:]}", steps.FAILED)


def link(home: Home, chosen: Addresses, first: int) -> None:
    """Join machine and node by one pair of interfaces, and route pods and Services there. What is there stays."""
    if not _link_there(home):
        _ip("link", "add", home.name, "type", "veth", "peer", "name", "eth0", "netns", str(first))
    _ip("address", "replace", f"{chosen.machine}/{chosen.link}", "dev", home.name)
    _ip("link", "set", home.name, "up")
    inside = ("nsenter", "--target", str(first), "--net")
    _ip("address", "replace", f"{chosen.node}/{chosen.link}", "dev", "eth0", by=inside)
    _ip("link", "set", "eth0", "up", by=inside)
    # No default route: what leaves the cluster stays with the node, whatever the machine forwards for others.
    for block in (chosen.pods, chosen.services):
        _ip("route", "replace", block, "via", chosen.node, "dev", home.name)


def _texts(chosen: Addresses) -> dict[str, str]:
    v1 = cgroups.of("any").version == 1
    return {
        **rendering.node_files(_WHERE, chosen, v1),
        "roles.yaml": rendering.roles(),
        "storage.yaml": rendering.storage(),
    }


def _start(home: Home, chosen: Addresses, texts: dict[str, str], digest: str) -> int:
    """Start PID 1 of the node; its number as the machine has it."""
    ports = daemons.Ports(chosen.node)
    everything = [
        *daemons.control_plane(_WHERE, ports, chosen.services),
        *daemons.node(_WHERE),
        daemons.kuberay(_WHERE, chosen.node, rendering.OPERATOR_PORT),
    ]
    profiles.prepare(home, texts, everything, {})
    program = binaries.target(lock.read().modules["own"]) / "credentials"
    credentials.make(home, ports, daemons.addresses_of(ports, chosen), program)
    _seed(home)
    groups = cgroups.of(home.name)
    kubectl = str(profiles.built_kubectl())
    facts = {"profile": home.profile, "block": chosen.block, "made_of": digest, "kubectl": kubectl, "allowed": []}
    profiles.write_record(home, facts)
    profiles.write_record(home, {**facts, "allowed": cgroups.make(groups)})
    command = [
        *("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"),
        *("sh", str(folders.HERE / "inside" / "node.sh"), str(home.folder), str(roots.target("node")), daemons.NODE),
        *(f"{chosen.node}/{chosen.link}", ",".join(map(str, groups.folders))),
        *(f"{module.name}={binaries.target(module)}" for module in profiles.modules(_MODULES)),
    ]
    log = home.logs / "node.log"
    process = profiles.detached(home, command, log)
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in [processes.first_of_namespace(home.tag)] if pid]
        return bool(found)

    steps.until("the node's namespaces", there, 20, log, lambda: process.poll() is None)
    return found[0]


def _seed(home: Home) -> None:
    """A containerd store with the images in it: hard links, except for its databases, which are written in place."""
    store = home.data / "containerd"
    (home.data / "kubelet").mkdir(exist_ok=True)
    if store.exists():
        return
    source = images.target() / "containerd"
    with places.made_whole(store) as part:
        linked = subprocess.run(["cp", "-al", f"{source}/.", str(part)], capture_output=True)
        if linked.returncode:
            # Another file system than the cache's.
            subprocess.run(["cp", "-a", f"{source}/.", str(part)], check=True)
        for file in source.rglob("*.db"):
            copy = part / file.relative_to(source)
            copy.unlink()
            shutil.copyfile(file, copy)


def _wait(home: Home, chosen: Addresses, first: int) -> None:
    """Until pods can be created and would run."""

    def alive() -> bool:
        return processes.alive(first)

    profiles.settle(home, [*profiles.manifests(home), home.settings / "storage.yaml"])
    client = api.Client(home)
    steps.until("the node", lambda: client.node_ready(daemons.NODE), 120, home.logs / "kubelet.log", alive)
    for what, port, path, log in (
        ("Services", rendering.PROXY_HEALTH_PORT, "healthz", "kube-proxy"),
        ("names", rendering.DNS_READY_PORT, "ready", "coredns"),
        ("the KubeRay operator", rendering.OPERATOR_PORT, "healthz", "kuberay-operator"),
    ):
        where = f"{chosen.node}:{port}"
        steps.until(what, lambda at=where, of=path: api.healthy(at, of), 60, home.logs / f"{log}.log", alive)


def _refuse_another(home: Home) -> None:
    if _link_there(home):
        say.stop(
            f"the interface {home.name} is there, and no cluster in {home.folder}: another user's cluster, or one with "
            f"another XDG_STATE_HOME. End it there, or remove what it left: ip link delete {home.name}"
        )


def _link_there(home: Home) -> bool:
    return Path("/sys/class/net", home.name).exists()


def _ip(*words: str, by: tuple[str, ...] = ()) -> None:
    done = subprocess.run([*by, "ip", *words], capture_output=True, text=True)
    if done.returncode:
        say.stop(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}", steps.FAILED)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
