"""`python -m stackyard.training.run INTENT.json`: one training run, from intent to bundle, as one command.

This process only guards: the work is done by `stackyard.training.job` under a keeper that leaves nothing behind.
Exit status: 0 succeeded, 1 failed for good (the reason is in result.json), 2 not an intent, 5 the work was killed
and the same intent resumes it, 128+n ended by signal n (SIGINT, SIGTERM), which also resumes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from stackyard.store import layout
from stackyard.store.objects import Store
from stackyard.training import intent as intents
from stackyard.training import keeper, spending
from stackyard.training.intent import Intent

SUCCEEDED, FAILED, UNREADABLE, KILLED = 0, 1, 2, 5
DEATHS_ALLOWED = 5
"""How often the work of one run may be killed (by the kernel for memory, for example) before the run has failed."""
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
_STRIPPED = ("PULUMI_", "RAY_ADDRESS", "RAY_TMPDIR", "RAY_JOB_CONFIG_JSON_ENV_VAR")


class Interrupted(BaseException):
    """SIGINT or SIGTERM reached the run."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(argv: list[str]) -> int:
    """Run the intent named in `argv`; returns the exit status (see the module's own text)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if len(argv) != 1:
        print("usage: python -m stackyard.training.run INTENT.json", file=sys.stderr)
        return UNREADABLE
    try:
        intent = intents.read(Path(argv[0]))
        store = Store.open(intent.store)
        if (found := intents.result(store, intent.run_id)) is not None:
            return _show(found)
        return _attempt(Path(argv[0]).resolve(), intent, store)
    except intents.IntentError as error:
        print(error, file=sys.stderr)
        return UNREADABLE
    except Interrupted as error:
        print(f"interrupted by {signal.Signals(error.number).name}; the same intent resumes", flush=True)
        return 128 + error.number


def _attempt(path: Path, intent: Intent, store: Store) -> int:
    if gone := keeper.sweep(keeper.RUN_TAG, _mark(intent), str(intent.runtime)):
        print(f"ended {len(gone)} processes that an earlier try left", flush=True)
    shutil.rmtree(intent.runtime, ignore_errors=True)
    folder = intent.runtime / secrets.token_hex(2)
    folder.mkdir(parents=True, mode=0o700)
    intent.runtime.chmod(0o700)
    process = _start(path, intent, folder)
    try:
        status = process.wait(intent.project.training.deadline)
    except subprocess.TimeoutExpired:
        _end(process, folder)
        reason = f"not finished within training.deadline ({intent.project.training.deadline:g} s)"
        seconds = intent.project.training.deadline
        cost = spending.hours(intent.project.training, seconds)
        return _show(intents.conclude(store, intent.run_id, "failed", reason, seconds=seconds, **cost))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the clean-up below is not to be interrupted
        _end(process, folder)
    return _judge(intent, store, status)


def _start(path: Path, intent: Intent, folder: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_STRIPPED)}
    environment |= {
        keeper.RUN_TAG: _mark(intent),
        keeper.ATTEMPT_TAG: str(folder),
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    work = [sys.executable, "-m", "stackyard.training.job", str(path), str(folder)]
    command = [sys.executable, "-I", str(Path(keeper.__file__).resolve()), str(folder), *work]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def _mark(intent: Intent) -> str:
    return keeper.run_mark(intent.run_id, intent.runtime)


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Close the pipe and wait for the keeper; if that was killed, do its work."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    keeper.sweep(keeper.ATTEMPT_TAG, str(folder), str(folder))
    keeper.clear(str(folder))


def _judge(intent: Intent, store: Store, status: int) -> int:
    """The exit status of the run, given that of its work; a crash is a result, a kill is not."""
    if (found := intents.result(store, intent.run_id)) is not None:
        return _show(found)
    number = status - 128 if status > 128 else -status
    name = signal.Signals(number).name if number in {*signal.Signals} else f"exit status {status}"
    if number in CRASHES:
        return _show(intents.conclude(store, intent.run_id, "failed", f"the training process crashed ({name})"))
    deaths = 1 + sum(1 for _ in store.keys(layout.run(intent.run_id, "deaths")))
    store.create(layout.run(intent.run_id, f"deaths/{deaths:04d}.json"), b'{"kind":"run-death","version":1}')
    if deaths >= DEATHS_ALLOWED:
        reason = f"the training process ended before its time {deaths} times, last by {name}"
        return _show(intents.conclude(store, intent.run_id, "failed", reason))
    print(f"the training process ended before its time ({name}); the same intent resumes", flush=True)
    return KILLED


def _show(found: dict[str, Any]) -> int:
    if found["status"] == "succeeded":
        print(f"run {found['run_id']} succeeded: bundle {found['bundle']}", flush=True)
        return SUCCEEDED
    print(f"run {found['run_id']} failed: {found['reason']}", flush=True)
    return FAILED


def _interrupt(number: int, _frame: object) -> NoReturn:
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
