"""A cluster's own keys, certificates and tokens: made anew for each cluster, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from cluster import daemons, rendering
from cluster.folders import Home
from machine import say


def make(home: Home, ports: daemons.Ports, addresses: list[str], program: Path) -> None:
    """Fill the credentials folder and write the administrator's kubeconfig. A folder that is whole is left alone."""
    folder = home.credentials
    mark = folder / ".whole"
    if not mark.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [str(program), str(folder), daemons.NODE, *addresses]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            say.stop(f"the cluster's certificates could not be made: {done.stderr.strip()}")
        users = {user: secrets.token_urlsafe(32) for user in daemons.USERS}
        private(folder / "tokens.csv", rendering.tokens(users))
        server = f"https://{ports.host}:{ports.api}"
        authority = (folder / "ca.crt").read_text()
        for user, token in users.items():
            private(folder / daemons.file_of(user), rendering.kubeconfig(server, authority, user, token))
        mark.touch()
    private(home.kubeconfig, (folder / daemons.file_of("admin")).read_text())


def private(file: Path, text: str) -> None:
    """Write `file` so that only its owner can ever have read it."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    part.replace(file)
