"""Stands for `python -m stackyard.evacuation`: the same verbs and exit codes, copies for chunks, no signatures.

A file whose content is `unreadable` cannot be saved. The store is a folder; when it is not there, it is away.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


class Evacuation:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.workspace, self.store = Path(settings["workspace"]), Path(settings["store"])
        self.sealed = Path(settings["state"]) / "sealed.json"
        self.name = f"{settings['instance']}-{settings['generation']}"

    def now(self) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Digest of each file; and what is not saved."""
        files, unsaved = {}, []
        for path in sorted(path for path in self.workspace.rglob("*") if path.is_file()):
            content, name = path.read_bytes(), str(path.relative_to(self.workspace))
            files[name] = hashlib.sha256(content).hexdigest()
            if not self.store.is_dir():
                unsaved.append({"path": name, "reason": "the store is away"})
            elif content == b"unreadable":
                unsaved.append({"path": name, "reason": "it cannot be read"})
        return files, unsaved

    def newest(self) -> dict[str, str]:
        versions = sorted((self.store / "versions").glob("*.json"))
        return json.loads(versions[-1].read_text()) if versions else {}

    def save(self) -> list[dict[str, str]]:
        files, unsaved = self.now()
        if not unsaved and (files != self.newest() or not files):
            folder = self.store / "versions"
            folder.mkdir(exist_ok=True)
            (folder / f"{len(list(folder.iterdir())):06}.json").write_text(json.dumps(files))
        return unsaved

    def status(self) -> list[dict[str, str]]:
        files, unsaved = self.now()
        saved = self.newest()
        listed = {each["path"] for each in unsaved}
        return unsaved + [
            {"path": name, "reason": "it is newer than the newest version"}
            for name, digest in files.items()
            if saved.get(name) != digest and name not in listed
        ]

    def evacuate(self) -> list[dict[str, str]]:
        unsaved = self.save()
        if not unsaved:
            self.signal(signal.SIGSTOP)
            unsaved = self.save()
        if unsaved:
            self.signal(signal.SIGCONT)
            return unsaved
        self.write("receipts", {"files": self.newest()})
        self.sealed.write_text(json.dumps({name: self.settings[name] for name in ("instance", "generation")}))
        return []

    def write(self, kind: str, body: dict[str, Any]) -> None:
        (self.store / kind).mkdir(exist_ok=True)
        (self.store / kind / f"{self.name}.json").write_text(json.dumps(body))

    def document(self) -> str | None:
        found = [kind for kind in ("discards", "receipts") if (self.store / kind / f"{self.name}.json").exists()]
        return found[0].removesuffix("s") if found else None

    def signal(self, which: signal.Signals) -> None:
        tag = self.settings["processes_tag"].encode()
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and tag in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), which)
            except OSError:
                continue


def main(verb: str, settings: str, *arguments: str) -> int:
    evacuation = Evacuation(json.loads(Path(settings).read_text()))
    losses: list[dict[str, str]] = []
    told: dict[str, Any] = {}
    if verb == "receipt":
        document = evacuation.document()
        told = {name: {"place": document} if name == document else None for name in ("receipt", "discard")}
        losses = evacuation.status() if document == "receipt" else []
        told["ok"] = bool(document) and not losses
    elif verb == "discard":
        evacuation.write("discards", {"because": arguments[arguments.index("--because") + 1]})
    elif verb in ("save", "evacuate"):
        losses = getattr(evacuation, verb)()
    elif verb == "thaw":
        told["ok"] = evacuation.document() != "receipt"
        if told["ok"]:
            evacuation.signal(signal.SIGCONT)
    elif verb == "watch":
        while True:
            evacuation.save()
            time.sleep(0.2)
    elif verb != "verify":
        return 2
    told = {"ok": not losses, "reason": "not everything is saved", "losses": losses, "more": 0} | told
    print(json.dumps(told))
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
