"""JupyterLab beside a workspace: behind a token that nobody sees, nothing in a home, nobody outside asked for anything.

Its settings, its history and what it remembers of open notebooks lie beside the workspace and are saved with it; what
holds a token or a socket lies in a scratch folder of ours and is not. Kernels talk over sockets in files: on loopback
every user of the machine could listen to what they print.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

START = 600
"""Seconds until it is healthy: as for any process, ten times what a quiet machine needs."""
STOP_TIMEOUT = 30
"""Seconds that it has to write its kernels' last words when it is restarted."""
KEPT = "notebook"
"""The folder beside the workspace with what people set and typed."""

_SETTINGS = """\
import os, pathlib
os.environ["PATH"] = {scripts!r} + os.pathsep + os.environ.get("PATH", os.defpath)
c.ServerApp.ip, c.ServerApp.port, c.ServerApp.port_retries = "127.0.0.1", {port}, 0
c.ServerApp.root_dir = {workspace!r}
c.ServerApp.open_browser, c.ServerApp.allow_root = False, os.getuid() == 0
c.IdentityProvider.token = pathlib.Path({token!r}).read_text().strip()
c.KernelManager.transport = "ipc"
# No login shell, which Jupyter would take: it forgets which Python is the cluster's.
c.ServerApp.terminado_settings = {{"shell_command": [os.environ.get("SHELL") or "/bin/sh"]}}
c.LabApp.news_url, c.LabApp.check_for_updates_class = None, "jupyterlab.handlers.announcements.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
# Looking for language servers runs npm, which writes into homes and asks outside.
c.LanguageServerManager.autodetect = False
"""


def process(
    name: str, *, beside: Path, scratch: Path, python: str, settings: str, port: int, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The process `name` of the cluster that lies at `beside`; `settings` is where the provider puts its file."""
    kept = beside / KEPT
    text = _SETTINGS.format(
        scripts=str(Path(python).parent),
        port=port,
        workspace=str(beside / "workspace"),
        token=str(beside / "notebook-token"),
    )
    places = {
        "JUPYTER_CONFIG_DIR": str(kept / "config"),
        "JUPYTER_DATA_DIR": str(kept / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(kept / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(kept / "workspaces"),
        "IPYTHONDIR": str(kept / "ipython"),
        "HISTFILE": str(kept / "shell-history"),
        "JUPYTER_RUNTIME_DIR": str(scratch),
    }
    return {
        "name": name,
        "command": [python, "-P", "-m", "jupyterlab", f"--config={settings}"],
        "environment": {**environment, **places},
        "files": {"jupyter.py": text},
        "health": {"http": f"http://127.0.0.1:{port}/api", "timeout": START},
        "stop_timeout": STOP_TIMEOUT,
        "version": "2",
        "scratch": str(scratch),
    }
