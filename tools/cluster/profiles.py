"""What both profiles share: the record of a cluster, its settings on disk, what is applied to it, its removal."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from cluster import api, binaries, credentials, daemons, folders, lock, processes, rendering, steps
from cluster.folders import Home
from machine import places, say

CONTROL_PLANE = ("kubernetes", "etcd", "kuberay", "own")
"""Modules that every profile needs."""

API_SECONDS = 120.0
"""How long an API server may take on a busy machine; 3 s on an idle one."""


def modules(names: tuple[str, ...]) -> list[lock.Module]:
    """Modules of the lock."""
    known = lock.read().modules
    return [known[name] for name in names]


def making() -> Path:
    """The lock of whoever builds: both profiles are made from the same modules."""
    return folders.cache() / ".make-lock"


def record(home: Home) -> dict[str, Any] | None:
    """What the cluster was started with, if there is one."""
    try:
        return json.loads(home.record.read_text())
    except (OSError, ValueError):
        return None


def write_record(home: Home, facts: dict[str, Any]) -> None:
    """Keep `facts`; from now on the cluster is there."""
    credentials.private(home.record, json.dumps(facts, indent=1) + "\n")


def prepare(home: Home, texts: dict[str, str], all_daemons: list[daemons.Daemon], environment: dict[str, str]) -> None:
    """Write the settings and the daemons' files; empty what the last supervisor left."""
    home.folder.mkdir(parents=True, exist_ok=True)
    home.folder.chmod(0o700)
    for folder in (home.logs, home.settings, home.data, home.pids, home.settings / "daemons"):
        folder.mkdir(exist_ok=True)
    for stale in (*home.pids.iterdir(), *(home.settings / "daemons").iterdir()):
        stale.unlink()
    if not home.record.exists():
        # What a `down` or a first `up` left that was killed half-way: keys and store must be of one make.
        for half in (home.data, home.credentials):
            _remove(half)
        home.data.mkdir()
    scripts = {file.name: file.read_text() for file in (folders.HERE / "inside").glob("*.sh")}
    commands = {f"daemons/{one.name}": rendering.daemon(one, environment) for one in all_daemons}
    for name, text in {**texts, **scripts, **commands}.items():
        file = home.settings / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def made_of(names: tuple[str, ...], texts: dict[str, str], *more: str) -> str:
    """A digest over all that a cluster is made from."""
    parts = [binaries.target(module).name for module in modules(names)]
    return places.digest(*parts, *more, *(f"{name}\n{text}" for name, text in sorted(texts.items())))[:16]


def settle(home: Home, manifests: list[Path]) -> None:
    """Wait for the API server, then apply `manifests`, unless these very ones were applied and are there."""
    client = api.Client(home)
    first = processes.tagged(home.tag)

    def alive() -> bool:
        return any(processes.alive(pid) for pid in first)

    steps.until("the API server", client.ready, API_SECONDS, home.logs / "kube-apiserver.log", alive)
    known, digest = record(home) or {}, places.digest(*manifests)
    if known.get("applied") == digest and client.applied():
        return
    files = [word for file in manifests for word in ("--filename", str(file))]
    # The CRDs are too large for the annotation that a client-side apply leaves.
    arguments = ["apply", "--server-side", "--force-conflicts", *files]
    end = time.monotonic() + API_SECONDS
    while said := api.kubectl(home, kubectl(home), *arguments):
        if time.monotonic() > end:
            say.stop(f"the KubeRay CRDs and roles could not be applied: {said[-500:]}", steps.FAILED)
        time.sleep(0.5)
    steps.until("the account of pods", client.account_there, 60, home.logs / "kube-controller-manager.log", alive)
    write_record(home, {**(record(home) or {}), "applied": digest})


def manifests(home: Home) -> list[Path]:
    """What every cluster gets: KubeRay's CRDs and role, our users' roles."""
    kuberay = binaries.target(lock.read().modules["kuberay"]) / "files"
    return [
        *sorted(kuberay.glob("config/crd/bases/*.yaml")),
        kuberay / "config/rbac/role.yaml",
        home.settings / "roles.yaml",
    ]


def kubectl(home: Home) -> Path:
    """Of the version that the cluster was made with; where there is none, of the lock's."""
    known = (record(home) or {}).get("kubectl")
    return Path(known) if known else built_kubectl()


def built_kubectl() -> Path:
    """Of the lock's version."""
    return binaries.target(lock.read().modules["kubernetes"]) / "kubectl"


def differ(running: bool) -> None:
    """The cluster was made from something else than this checkout would make."""
    sentence = "this cluster was made from other versions than this checkout has"
    if not running:
        say.stop(f"{sentence}, and does not run: `make cluster-down`, then `make cluster`.")
    say.line(f"{sentence}; it goes on as it is. To renew it: `make cluster-down`, then `make cluster`.")


def forget(home: Home) -> None:
    """Remove a cluster that has ended: its folder, and those above that are empty now."""
    home.record.unlink(missing_ok=True)
    _remove(home.folder)
    for folder in (home.folder.parent, home.folder.parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


def detached(home: Home, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start what outlives us: in a session of its own, with our tag, none of our files, and nothing of our settings."""
    with log.open("a") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(home),
            cwd="/",
            start_new_session=True,
        )


def environment(home: Home) -> dict[str, str]:
    """All that a supervisor gets of ours: nothing of the user's settings, least of all proxies and secrets."""
    name, _, value = home.tag.partition("=")
    return {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin", "LANG": "C.UTF-8", name: value}


def _remove(folder: Path) -> None:
    done = subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], capture_output=True, text=True)
    if done.returncode:
        say.stop(f"{folder} could not be removed: {done.stderr.strip()}", steps.FAILED)
