"""Leaks that are really planted on this machine are found, and what belongs to others never is."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from departed import Departed
from stackyard.certificates import leaks, looking
from stackyard.certificates.looking import look

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


class Ground:
    """Where things are planted; all of it goes when the test is over."""

    def __init__(self, gone: Departed, stack: ExitStack) -> None:
        self.gone, self._stack = gone, stack

    def process(self, code: str = "", tags: dict[str, str] | None = None, *, session: bool = False) -> int:
        """A process that does `code` and then waits; returns its pid. It carries nothing but `tags`."""
        command = [sys.executable, "-c", f"{code}\n{WAIT}"]
        child = subprocess.Popen(
            command, env=tags or {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            start_new_session=session,
        )  # fmt: skip
        self._stack.callback(child.communicate)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child.pid

    def folder(self, path: Path) -> Path:
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
        return path

    def shared(self) -> Path:
        path = Path(f"/dev/shm/stackyard-test-{secrets.token_hex(4)}")
        path.write_bytes(b"x" * 100)
        self._stack.callback(lambda: path.unlink(missing_ok=True))
        return path


@pytest.fixture
def ground(gone: Departed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    monkeypatch.setattr(looking, "RAY", gone.base / "ray")
    with ExitStack() as stack:
        yield Ground(gone, stack)


def found(gone: Departed, subject: str = "stack", **told: Any) -> leaks.Found:
    ledger = gone.ledger(subject, **told)
    return leaks.find(ledger, look(ledger))


def ours(ground: Ground) -> dict[str, str]:
    return {"STACKYARD_STACK_ID": ground.gone.stack_id}


def kinds(seen: leaks.Found) -> set[str]:
    return {leak.kind for leak in seen.leaks}


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


LISTEN = "import socket; s = socket.socket(); s.bind(({address!r}, {port})); s.listen()"
BIND = "import socket; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); import os; os.unlink({path!r})"


def tagged_process(ground: Ground) -> set[str]:
    pid = ground.process(tags={**ours(ground), "STACKYARD_PROCESS": "serving"})
    seen = found(ground.gone)
    assert [leak.what.split()[0] for leak in seen.leaks] == [str(pid)]
    return kinds(seen)


def overwritten_environ(ground: Ground) -> set[str]:
    log = ground.folder(ground.gone.runtime / "session") / "worker.log"
    ground.process(f"f = open({str(log)!r}, 'w'); import os; os.unlink({str(log)!r})")
    return kinds(found(ground.gone)) - {"folder"}


def unlinked_socket(ground: Ground) -> set[str]:
    path = ground.folder(ground.gone.runtime) / "haproxy.sock"
    ground.process(BIND.format(path=str(path)))
    return kinds(found(ground.gone)) - {"folder"}


def working_folder(ground: Ground) -> set[str]:
    folder = ground.folder(ground.gone.runtime)
    ground.process(f"import os; os.chdir({str(folder)!r})", session=True)
    return kinds(found(ground.gone)) - {"folder"}


def bound_port(ground: Ground) -> set[str]:
    port = free_port()
    ground.process(LISTEN.format(address="127.0.0.1", port=port), ours(ground))
    return kinds(found(ground.gone, ports=[{"name": "predict", "port": port}]))


def port_at_our_address(ground: Ground) -> set[str]:
    port = free_port("127.0.0.213")
    ground.process(LISTEN.format(address="127.0.0.213", port=port))
    told: dict[str, Any] = {"addresses": [{"name": "serving", "address": "127.0.0.213"}]}
    return kinds(found(ground.gone, ports=[{"name": "serving-gcs", "port": port}], **told))


def shared_memory(ground: Ground) -> set[str]:
    path = ground.shared()
    seen = found(ground.gone, shared_memory=[{"path": str(path), "inode": path.stat().st_ino}])
    assert [leak.size for leak in seen.leaks] == [100]
    return kinds(seen)


def shared_memory_in_use(ground: Ground) -> set[str]:
    path = ground.shared()
    ground.process(f"f = open({str(path)!r})", ours(ground))
    return kinds(found(ground.gone))


def left_socket(ground: Ground) -> set[str]:
    path = ground.folder(ground.gone.runtime) / "supervisor.sock"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return kinds(found(ground.gone)) - {"folder"}


def temp_folder(ground: Ground) -> set[str]:
    (ground.folder(ground.gone.runtime / "session") / "big").write_bytes(b"x" * 70)
    seen = found(ground.gone)
    assert [leak.size for leak in seen.leaks] == [70]
    return kinds(seen)


def workspace_left(ground: Ground) -> set[str]:
    ground.folder(ground.gone.state / "leases/bench/workspace")
    return kinds(found(ground.gone))


def session_of_ray(ground: Ground) -> set[str]:
    for name, address in (("session_1", "127.0.0.213"), ("session_2", "127.0.0.1"), ("session_3", "10.0.0.7")):
        folder = ground.folder(looking.RAY / name)
        (folder / "node_ip_address.json").write_text(json.dumps({"node_ip_address": address}))
    seen = found(ground.gone, addresses=[{"name": "serving", "address": "127.0.0.213"}])
    assert [leak.what for leak in seen.leaks] == [str(looking.RAY / "session_1")]
    return kinds(seen)


PLANTED: dict[str, tuple[Callable[[Ground], set[str]], set[str]]] = {
    "a-live-tagged-process": (tagged_process, {"process"}),
    "overwritten-environ-with-a-deleted-file-of-ours": (overwritten_environ, {"process"}),
    "a-socket-whose-name-is-gone": (unlinked_socket, {"process"}),
    "a-daemon-in-a-folder-of-ours": (working_folder, {"process"}),
    "a-bound-port": (bound_port, {"process", "port"}),
    "a-port-at-an-address-of-ours": (port_at_our_address, {"port"}),
    "a-file-in-shared-memory": (shared_memory, {"shared memory"}),
    "shared-memory-that-no-ledger-names": (shared_memory_in_use, {"process", "shared memory"}),
    "a-socket": (left_socket, {"socket"}),
    "a-temp-folder": (temp_folder, {"folder"}),
    "a-workspace": (workspace_left, {"folder"}),
    "a-session-of-ray-at-our-address": (session_of_ray, {"folder"}),
}


@pytest.mark.parametrize("word", PLANTED)
def test_what_is_left_is_found(word: str, ground: Ground):
    plant, expected = PLANTED[word]
    assert found(ground.gone).leaks == ()
    assert plant(ground) == expected


def test_what_others_have_is_never_counted(ground: Ground):
    gone, taken = ground.gone, free_port()
    theirs = {"STACKYARD_STACK_ID": secrets.token_hex(4), "STACKYARD_PROCESS": "serving"}
    ground.process(tags={**theirs, "STACKYARD_CLUSTER": "ab/bench"})
    ground.process(LISTEN.format(address="0.0.0.0", port=taken))
    path = ground.shared()
    ground.process(f"f = open({str(path)!r})")
    told = {"ports": [{"name": "predict", "port": taken}]}
    told |= {"shared_memory": [{"path": str(path), "inode": path.stat().st_ino + 1}]}
    for subject in ("stack", "cluster"):
        seen = found(gone, subject, **told)
        assert seen.leaks == ()
        assert seen.others == (f"port 0.0.0.0:{taken} (predict) is somebody else's by now",)


@pytest.mark.parametrize(
    ("tags", "of_cluster"),
    [
        pytest.param({"STACKYARD_CLUSTER": "{id}/bench"}, True, id="its-workspace"),
        pytest.param({"STACKYARD_CLUSTER": "{id}/other"}, False, id="another-workspace"),
        pytest.param({"STACKYARD_STACK_ID": "{id}", "STACKYARD_PROCESS": "lease-bench-saver"}, True, id="its-saver"),
        pytest.param(
            {"STACKYARD_STACK_ID": "{id}", "STACKYARD_PROCESS": "evacuation-bench"}, True, id="its-evacuation"
        ),
        pytest.param({"STACKYARD_STACK_ID": "{id}", "STACKYARD_PROCESS": "serving"}, False, id="the-stacks"),
    ],
)
def test_a_clusters_processes_are_the_stacks_too_and_not_the_other_way_round(
    ground: Ground, tags: dict[str, str], of_cluster: bool
):
    gone = ground.gone
    ground.process(tags={name: value.format(id=gone.stack_id) for name, value in tags.items()})
    assert kinds(found(gone)) == {"process"}
    assert bool(found(gone, "cluster").leaks) is of_cluster


def test_a_child_without_tags_belongs_to_its_parent(ground: Ground):
    child = "import atexit, subprocess; p = subprocess.Popen(['sleep', '1000'], env={}); atexit.register(p.kill)"
    ground.process(child, ours(ground))
    assert len(found(ground.gone).leaks) == 2


def test_whoever_asks_is_not_counted(ground: Ground):
    ask = (
        "import json, sys\n"
        "from stackyard.certificates import leaks, ledger, looking\n"
        "read = ledger.read(json.loads(sys.argv[1]), 'here')\n"
        "sys.exit(len(leaks.find(read, looking.look(read)).leaks))"
    )
    environment = os.environ | {"STACKYARD_STACK_ID": ground.gone.stack_id}
    command = [sys.executable, "-c", ask, json.dumps(ground.gone.plain())]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["python", "-P", "-m", "jupyterlab", "--token=canary"], "python -m jupyterlab", id="module"),
        pytest.param(["python", "train.py", "--password", "canary"], "python train.py", id="script"),
        pytest.param(["curl", "https://ada:canary@example.org"], "curl", id="address"),
        pytest.param(["psql", "-c", "canary"], "psql", id="option"),
        pytest.param(["ray::work canary"], "ray::work", id="title"),
        pytest.param([""], "", id="nothing"),
    ],
)
def test_a_certificate_says_what_a_process_is_and_not_what_it_was_told(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cmdline").write_bytes("\0".join(words).encode() + b"\0")
    monkeypatch.setattr(looking, "PROC", tmp_path)
    assert looking._command(7) == told
