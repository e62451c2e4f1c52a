"""A person at JupyterLab: its REST, its kernels and its terminals, as a browser uses them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
import websocket


class LabClient:
    """Talks to one server with one token."""

    def __init__(self, address: str, token: str) -> None:
        self._address, self._headers = address, {"Authorization": f"token {token}"}
        self.rest = httpx.Client(base_url=address, headers=self._headers, trust_env=False, timeout=30)

    def kernel(self) -> str:
        """Start a kernel; its id."""
        return self._made("/api/kernels", {"name": "python3"})["id"]

    def terminal(self) -> str:
        """Open a terminal; its name."""
        return self._made("/api/terminals", {})["name"]

    def run(self, kernel: str, code: str, seconds: float = 120) -> str:
        """Run code in a kernel; what it prints. Raises RuntimeError for what it raises."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": uuid.uuid4().hex,
        }
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        out = ""
        socket = self._socket(f"/api/kernels/{kernel}/channels", seconds)
        try:
            socket.send(json.dumps(message))
            while True:
                told = json.loads(socket.recv())
                if told["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                if told["msg_type"] == "stream":
                    out += told["content"]["text"]
                if told["msg_type"] == "error":
                    raise RuntimeError("\n".join(told["content"]["traceback"]))
                if told["msg_type"] == "status" and told["content"]["execution_state"] == "idle":
                    return out
        finally:
            socket.close()

    def type(self, terminal: str, line: str, until: str, seconds: float = 30) -> str:
        """Type a line into a terminal; what it shows up to `until`."""
        socket = self._socket(f"/terminals/websocket/{terminal}", seconds / 2)
        shown, end = "", time.monotonic() + seconds  # the server's pings keep a silent socket from timing out
        try:
            socket.send(json.dumps(["stdin", f"{line}\r"]))
            while until not in shown:
                if time.monotonic() > end:
                    raise TimeoutError(shown)
                kind, *rest = json.loads(socket.recv())
                shown += rest[0] if kind == "stdout" else ""
            return shown
        finally:
            socket.close()

    def _made(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        return self.rest.post(path, json=wanted).raise_for_status().json()

    def _socket(self, path: str, seconds: float) -> websocket.WebSocket:
        address = self._address.replace("http://", "ws://")
        return websocket.create_connection(
            f"{address}{path}", header=self._headers, timeout=seconds, http_no_proxy=["127.0.0.1"]
        )
