"""Real faults under a workspace, its store or its saver, each as a table's row; no code is replaced by a fake.

A disk that is full is a tmpfs in a mount namespace of the verb's own, which vanishes with it. A file that even root
cannot read is one whose permissions say so, to a process that gave up the right to ignore them.
"""

from __future__ import annotations

import functools
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from forking import Outcome
from leased import Lab

OBEYING = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
"""Before a command: it obeys the permissions of files, root or not."""
OLD = 1_500_000_000_123_456_789


@dataclass
class Scene:
    """What a fault did: what the verbs run inside of, and whom to end afterwards."""

    before: tuple[str, ...] = ()
    """Words before the command."""
    inside: str = ""
    """Shell commands in a mount namespace before the command; empty: no namespace."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def run(self, lab: Lab, verb: str, *arguments: str) -> Outcome:
        """A verb of the evacuation under the fault."""
        path = lab.base / f"settings-{secrets.token_hex(4)}.json"
        path.write_text(lab.settings.model_dump_json())
        command = [*self.before, sys.executable, "-m", "stackyard.evacuation", verb, str(path), *arguments, "--json"]
        if self.inside:
            command = [*MOUNTING, "sh", "-ec", f'{self.inside}\nexec "$@"', "sh", *command]
        done = subprocess.run(command, capture_output=True, text=True)
        line = done.stdout.strip().splitlines()[-1:] or ["{}"]
        return Outcome(done.returncode, json.loads(line[0]), done.stderr)


@functools.cache
def can_mount() -> bool:
    """Whether a namespace with a tmpfs of its own can be made here."""
    return subprocess.run([*MOUNTING, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0


MOUNTING = ("unshare", "--mount") if os.getuid() == 0 else ("unshare", "--mount", "--user", "--map-root-user")

Fault = Callable[[Lab, Scene], None]


def nothing(lab: Lab, scene: Scene) -> None:
    """Nothing is wrong."""


def store_away(lab: Lab, scene: Scene) -> None:
    """The store's folder is not there any more."""
    lab.command("save")
    (lab.workspace / "features").write_bytes(b"newer")
    lab.store.rename(lab.base / "unmounted")


def store_full(lab: Lab, scene: Scene) -> None:
    """The store's disk has room for a part."""
    lab.store.mkdir()
    scene.inside = f"mount -t tmpfs -o size=1m tmpfs '{lab.store}'"


def unreadable(lab: Lab, scene: Scene) -> None:
    """Nobody may read a file."""
    (lab.workspace / "features").chmod(0)
    scene.before = OBEYING


def unreadable_folder(lab: Lab, scene: Scene) -> None:
    """Nobody may look into a folder."""
    (lab.workspace / "notes").chmod(0)
    scene.before = OBEYING


def damaged(lab: Lab, scene: Scene) -> None:
    """A bit of the stored copy flipped."""
    lab.command("save")
    pack = max(lab.packs(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[random.Random(5).randrange(len(data))] ^= 4
    pack.write_bytes(bytes(data))


def pack_gone(lab: Lab, scene: Scene) -> None:
    """An object of the store was removed."""
    lab.command("save")
    max(lab.packs(), key=lambda path: path.stat().st_size).unlink()


def _writer(lab: Lab, scene: Scene, *, tagged: bool) -> None:
    """Somebody who appends all the time; untagged, and with no file open in between, nothing says whose it is."""
    code = "import sys,time\nwhile True:\n open(sys.argv[1],'ab').write(b'x'*100); print(flush=True); time.sleep(.001)"
    name, _, value = (lab.settings.processes_tag or "").partition("=")
    environment = {key: word for key, word in os.environ.items() if key != name} | ({name: value} if tagged else {})
    command = [sys.executable, "-c", code, str(lab.workspace / "features")]
    process = subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.PIPE)
    scene.running.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    # The pipe would fill, and block it.
    subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)


def job_running(lab: Lab, scene: Scene) -> None:
    """A job of the cluster writes all the time: it is stopped, and everything is saved."""
    _writer(lab, scene, tagged=True)


def unstoppable(lab: Lab, scene: Scene) -> None:
    """A stranger writes all the time, and nothing says that it belongs to the cluster."""
    _writer(lab, scene, tagged=False)


def left_out(lab: Lab, scene: Scene) -> None:
    """What cannot be read is what the author leaves out."""
    (lab.workspace / "scratch.tmp").write_bytes(b"x")
    (lab.workspace / "scratch.tmp").chmod(0)
    lab.settings = lab.with_(exclude=["*.tmp"]).settings
    scene.before = OBEYING


def nothing_to_save(lab: Lab, scene: Scene) -> None:
    """A socket and a fifo."""
    os.mkfifo(lab.workspace / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(lab.workspace)  # a socket's path ends at 107 bytes
        server.bind("socket")
        os.chdir(here)


def strange_names(lab: Lab, scene: Scene) -> None:
    """Line breaks and bytes that are no text."""
    for name in (b"a\nb", b"\xff\xfe", b"-rf", b" ", "Überraschung".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(lab.workspace), name))).write_bytes(name)


def links(lab: Lab, scene: Scene) -> None:
    """Hard links, and links that lead in a circle or nowhere."""
    os.link(lab.workspace / "features", lab.workspace / "notes" / "again")
    os.symlink(".", lab.workspace / "loop")
    os.symlink("b", lab.workspace / "a")
    os.symlink("a", lab.workspace / "b")
    os.utime(lab.workspace / "a", ns=(OLD, OLD), follow_symlinks=False)


def sparse(lab: Lab, scene: Scene) -> None:
    """A file that is mostly holes."""
    with (lab.workspace / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")


def workspace_full(lab: Lab, scene: Scene) -> None:
    """Workspace and the saver's own memory lie on one disk, without a byte left. It was saved before."""
    room = lab.base / "disk"
    room.mkdir()
    lab.settings = lab.with_(workspace=str(room / "workspace"), state=str(room / "state")).settings
    whole = lab.base / "first.json"
    whole.write_text(lab.settings.model_dump_json())
    scene.inside = (
        f"mount -t tmpfs -o size=32m tmpfs '{room}'\n"
        f"mkdir '{room}/workspace'; head -c 3000000 /dev/urandom > '{room}/workspace/features'\n"
        f"'{sys.executable}' -m stackyard.evacuation save '{whole}'\n"
        f"echo new > '{room}/workspace/new'\n"
        f"cat /dev/zero > '{room}/workspace/filler' 2>&- || true\n"
    )


def memory_lost(lab: Lab, scene: Scene) -> None:
    """The saver's own memory was removed."""
    lab.command("save")
    subprocess.run(["rm", "-rf", str(lab.settings.state)], check=True)


def store_back(lab: Lab, scene: Scene) -> None:
    """The store was away for a while."""
    store_away(lab, scene)
    assert scene.run(lab, "evacuate").code == 1
    (lab.base / "unmounted").rename(lab.store)


MUST: dict[str, tuple[Fault, str, str]] = {
    "store-away": (store_away, "is not there", "features"),
    "store-full": (store_full, "is full", "features"),
    "unreadable-file": (unreadable, "it cannot be read", "features"),
    "unreadable-folder": (unreadable_folder, "its folder cannot be read", "notes"),
    "bit-flipped": (damaged, "its stored copy is damaged", "features"),
    "object-gone": (pack_gone, "is missing", "features"),
    "writer-not-stoppable": (unstoppable, "", "features"),
}
"""What must be refused: the fault, a part of what is said, whose loss is named."""
MUST_NOT: dict[str, Fault] = {
    "nothing-wrong": nothing,
    "job-running": job_running,
    "left-out-and-unreadable": left_out,
    "socket-and-fifo": nothing_to_save,
    "strange-names": strange_names,
    "links-and-loops": links,
    "sparse-file": sparse,
    "workspace-disk-full": workspace_full,
    "savers-memory-lost": memory_lost,
    "store-away-and-back": store_back,
}
"""What must not be refused."""
MOUNTS = frozenset({"store-full", "workspace-disk-full"})
"""What needs a mount namespace."""


@contextmanager
def scene() -> Iterator[Scene]:
    """Who was started for a fault is ended."""
    made = Scene()
    try:
        yield made
    finally:
        for process in made.running:
            process.send_signal(signal.SIGKILL)
            process.send_signal(signal.SIGCONT)
            process.wait()
