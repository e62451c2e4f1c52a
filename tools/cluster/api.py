"""Asking a cluster's API server and its daemons' health pages, past every proxy, with the administrator's token."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster.folders import Home

_SECONDS = 5.0
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Client:
    """Reads the kubeconfig once."""

    def __init__(self, home: Home) -> None:
        document = json.loads(home.kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._token: str = document["users"][0]["user"]["token"]
        trusted = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        )
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        ).open

    def text(self, path: str) -> str | None:
        """What the server says at `path`; None when it does not, or refuses."""
        request = urllib.request.Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with self._open(request, timeout=_SECONDS) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.URLError):
            return None

    def items(self, path: str) -> list[dict[str, Any]] | None:
        """A list's items; None when it cannot be had."""
        text = self.text(path)
        return None if text is None else json.loads(text).get("items", [])

    def ready(self) -> bool:
        """Whether the API server says that it is."""
        return self.text("/readyz") == "ok"

    def applied(self) -> bool:
        """Whether what every cluster gets is there: the kinds of KubeRay, and the roles of those who serve them."""
        kinds = self.text("/apis/ray.io/v1")
        wanted = ("rayclusters", "rayjobs", "rayservices")
        role = self.text("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/stackyard:kuberay")
        return role is not None and {one["name"] for one in json.loads(kinds or "{}").get("resources", [])} >= {*wanted}

    def node_ready(self, name: str) -> bool:
        """Whether a node is there and ready."""
        text = self.text(f"/api/v1/nodes/{name}")
        conditions = json.loads(text)["status"].get("conditions", []) if text else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def account_there(self) -> bool:
        """Whether pods can be created in the namespace `default`."""
        return self.text("/api/v1/namespaces/default/serviceaccounts/default") is not None


def healthy(address: str, path: str) -> bool:
    """Whether http://ADDRESS/PATH answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/{path}", timeout=_SECONDS) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def kubectl(home: Home, program: Path, *arguments: str) -> str | None:
    """Run kubectl as the administrator; None when done, else what it said."""
    settings = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    done = subprocess.run(
        [str(program), "--kubeconfig", str(home.kubeconfig), *arguments],
        env=settings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()
