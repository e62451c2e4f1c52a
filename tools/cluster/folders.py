"""Where a cluster's things are: what it is made from in the user's cache, what it is in the user's state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from machine import places

HERE = places.TOOLS / "cluster"
LOCK = HERE / "cluster.lock"

NODE, KWOK = "node", "kwok"
PROFILES = (NODE, KWOK)


def cache() -> Path:
    """Binaries, Debian roots and images, each under a digest of what it was made from; many checkouts share it."""
    return places.cache() / "cluster"


class Home(NamedTuple):
    """One profile's folder. Everything that the cluster is lies here; `down` removes it as a whole."""

    profile: str
    folder: Path

    @property
    def record(self) -> Path:
        """What the running cluster was started with; the cluster is there exactly while this file is."""
        return self.folder / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; 0600."""
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file a daemon, and the pods' under pods/."""
        return self.folder / "log"

    @property
    def settings(self) -> Path:
        """Rendered settings and the daemons' command lines."""
        return self.folder / "etc"

    @property
    def credentials(self) -> Path:
        """Keys, certificates, tokens; 0700."""
        return self.folder / "credentials"

    @property
    def data(self) -> Path:
        """What must survive a kill: the store, kubelet's and containerd's folders."""
        return self.folder / "data"

    @property
    def pids(self) -> Path:
        """A file a daemon, written by the supervisor."""
        return self.folder / "pids"

    @property
    def name(self) -> str:
        """What the machine shows of it: the link, the control group, the tag in its processes' environment."""
        return f"stackyard-{self.profile}"

    @property
    def tag(self) -> str:
        """In the environment of each of its processes."""
        return f"STACKYARD_TEST_CLUSTER={self.folder}"


def home(profile: str) -> Home:
    """The folder of `profile`, as the XDG rules say; a relative XDG_STATE_HOME counts as absent."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = base if base.is_absolute() else Path.home() / ".local" / "state"
    return Home(profile, state / "stackyard" / "cluster" / profile)
