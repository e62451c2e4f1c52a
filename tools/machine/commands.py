"""The commands behind the Makefile: set up, deploy, take down, check. Each converges, however the last one ended."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from machine import backend, engine, environment, places, say, venv

_RECORD = places.STATE / "machine.json"
"""What set-up chose last: read instead of asking again."""

_CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["pyright"],
    ["lint-imports"],
)

_TESTS = {
    # A file is one worker's; two of them, one a core: with three, Ray's starts wait too long. The longest come first
    # (tests/conftest.py), so that none is left over at the end.
    "test": ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations", "12"],
    "test-lifecycle": [
        "tests/lifecycle",
        "tests/infra/test_gate_orders.py",
        "tests/infra/test_gate_ray.py",
        "tests/infra/test_reaped_ray.py",
        "tests/infra/test_lease_ceilings.py",
        "tests/infra/test_lease_verbs.py",
        "tests/evacuation/test_kills.py",
        "tests/evacuation/test_refusals.py",
        "tests/evacuation/test_faults.py",
        "tests/evacuation/test_sizes.py",
        "tests/leasing/test_reaper_kills.py",
        "tests/training/test_whole_runs.py",
        "tests/e2e/test_whole_path.py",
    ],
    "test-kube": ["-s", "tests/tools/test_cluster_lifecycle.py", "--timeout", "3600"],
}
"""Verbs that run pytest, and how; by default on everything but the life-cycle suite."""


def main(arguments: list[str]) -> NoReturn:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="tools/machine.sh", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("setup", "check", "lock", "clean", "path"):
        verbs.add_parser(verb)
    for verb in ("up", "preview", "down", "env"):
        verbs.add_parser(verb).add_argument("--stack", default="local")
    played = verbs.add_parser("replay")
    played.add_argument("--stack", default="replay")
    played.add_argument("options", nargs="*")
    for verb in _TESTS:
        verbs.add_parser(verb).add_argument("pytest", nargs="*")
    # pytest's own options would be taken for ours.
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb not in (*_TESTS, "replay"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        sys.exit(_dispatch(options, rest))
    except KeyboardInterrupt:
        say.stop("interrupted; run it again to go on from here.", 130)


def _dispatch(options: argparse.Namespace, rest: list[str]) -> int:
    if options.verb == "lock":
        return venv.lock()
    if options.verb == "clean":
        return clean()
    if options.verb == "env":
        return env(options.stack)
    if options.verb == "path":
        return path()
    chosen = setup()
    if options.verb == "check":
        return check(chosen)
    if options.verb in _TESTS:
        return test(options.verb, chosen, options.pytest + rest)
    if options.verb == "replay":
        return replay(options.stack, chosen, options.options + rest)
    verbs = {"up": up, "preview": preview, "down": down}
    return verbs[options.verb](options.stack, chosen) if options.verb in verbs else 0


def setup() -> engine.Engine:
    """Make .venv and find or make an engine; at once when nothing has changed."""
    chosen = _recorded()
    if chosen and venv.ready():
        return chosen
    with places.only_one(places.STATE / ".setup-lock", "setting up this checkout"):
        venv.make()
        chosen = _recorded()
        if not chosen:
            chosen = engine.choose()
            _record(chosen)
    say.line(f"set up; Pulumi engine: {chosen.origin}")
    return chosen


def env(stack: str) -> int:
    """Print shell code for `source tools/activate`, having made what a plain `pulumi` needs."""
    # The shell evaluates our stdout: nothing that set-up starts may write there.
    shell = os.dup(1)
    os.dup2(2, 1)
    chosen = setup()
    differences = environment.changes(stack, chosen, os.environ)
    if environment.target(stack) == "local":
        _ensure_stack(stack, environment.applied(differences, os.environ))
    with open(shell, "w") as out:
        out.write(environment.as_shell(differences, os.environ) + "\n")
    return 0


def path() -> int:
    """Print the PATH on which pulumi and what it starts are found. Unlike `env` this makes nothing: it is for cron."""
    chosen = _recorded()
    if chosen is None:
        say.stop("this checkout is not set up: run `make setup` first.")
    print(environment.tooling(chosen, os.environ)["PATH"])
    return 0


def up(stack: str, chosen: engine.Engine) -> int:
    """Plan, deploy, wait for a champion, and show what is there."""
    settings = _ready(stack, chosen)
    is_local = environment.target(stack) == "local"
    # Elsewhere it may cost money: Pulumi shows its preview and asks.
    agreed = ["--yes", "--skip-preview"] if is_local else []
    steps = [
        ["stackyard", "plan", "-s", stack],
        ["pulumi", "up", "-s", stack, *agreed],
        ["stackyard", "status", "-s", stack, "--wait"],
        ["stackyard", "score", "-s", stack, "--example", "3"],
    ]
    return next((status for step in steps if (status := _run(step, settings))), 0)


def replay(stack: str, chosen: engine.Engine, arguments: list[str]) -> int:
    """Deploy the stack, then live through its past; called again, it goes on where it ended."""
    return up(stack, chosen) or _run(["stackyard", "replay", "-s", stack, *arguments], _ready(stack, chosen))


def preview(stack: str, chosen: engine.Engine) -> int:
    """Show what `up` would change."""
    return _run(["pulumi", "preview", "-s", stack], _ready(stack, chosen))


def down(stack: str, chosen: engine.Engine) -> int:
    """Destroy the stack's resources; the stack and its artifact store stay."""
    settings = _ready(stack, chosen, adopt=True)
    agreed = ["--yes", "--skip-preview"] if environment.target(stack) == "local" else []
    return _run(["pulumi", "destroy", "-s", stack, *agreed], settings)


def check(chosen: engine.Engine) -> int:
    """Every check, also after one has failed: the first status that is not 0."""
    settings = environment.applied(environment.tooling(chosen, os.environ), os.environ)
    statuses = [_run(command, settings) for command in _CHECKS]
    return next(filter(None, statuses), 0)


def test(suite: str, chosen: engine.Engine, arguments: list[str]) -> int:
    """The checks and the tests; both run, either may fail it. The life-cycle suite goes without the checks."""
    checked = check(chosen) if suite == "test" else 0
    settings = environment.applied(environment.tooling(chosen, os.environ), os.environ)
    return _run(["pytest", *_TESTS[suite], *arguments], settings) or checked


def clean() -> int:
    """Remove what set-up and the tools made in the checkout. State, data and models under .stackyard stay."""
    caches = (".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis")
    for path in [places.VENV, _RECORD, *(places.CHECKOUT / name for name in caches)]:
        places.remove(path)
    for path in places.CHECKOUT.glob("*/**/__pycache__"):
        places.remove(path)
    say.line(f"removed .venv and caches; {places.STATE.name}/ with its stacks, data and models stays")
    return 0


def _ready(stack: str, chosen: engine.Engine, adopt: bool = False) -> dict[str, str]:
    """The settings for `stack`, with what a killed command left behind put right."""
    environment.refuse_mixture(stack, os.environ)
    settings = environment.applied(environment.changes(stack, chosen, os.environ), os.environ)
    if environment.target(stack) == "local":
        _ensure_stack(stack, settings)
        _heal(stack, settings, adopt)
    return settings


def _ensure_stack(stack: str, settings: dict[str, str]) -> None:
    """Create the stack where the backend has none yet."""
    environment.prepare()
    state = backend.folder(settings["PULUMI_BACKEND_URL"])
    if state and backend.checkpoint(state, stack):
        return
    leftover = places.STACKS / f"Pulumi.{stack}.yaml"
    if state and leftover.exists():
        # Its secrets belong to a state that is gone, and its salt would refuse this checkout's passphrase.
        aside = leftover.with_name(f"{leftover.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
        leftover.rename(aside)
        say.line(f"the stack {stack} is new here: set an older stacks/{leftover.name} aside as {aside.name}")
    _keep_out_of_git(leftover)
    arguments = ["init", stack] if state else ["select", "--create", stack]
    status = _run(["pulumi", "stack", *arguments, "--non-interactive"], settings)
    if status:
        say.stop(f"Pulumi could not create the stack {stack}; its message is above.", status)


def _keep_out_of_git(file: Path) -> None:
    """A local stack's Pulumi file is this checkout's alone (its salt fits our passphrase only): git need not see it."""
    asked = subprocess.run(
        ["git", "rev-parse", "--git-path", "info/exclude"], cwd=places.CHECKOUT, capture_output=True, text=True
    )
    ours = subprocess.run(["git", "check-ignore", "-q", str(file)], cwd=places.CHECKOUT, capture_output=True)
    if asked.returncode or ours.returncode == 0:
        return
    exclude = places.CHECKOUT / asked.stdout.strip()
    exclude.parent.mkdir(parents=True, exist_ok=True)
    with exclude.open("a") as out:
        out.write(f"/{file.relative_to(places.CHECKOUT)}\n")


def _heal(stack: str, settings: dict[str, str], adopt: bool) -> None:
    state = backend.folder(settings["PULUMI_BACKEND_URL"])
    if not state:
        return
    for holder in backend.clear_stale_locks(state, stack):
        say.stop(
            f"process {holder.pid} of {holder.user} on {holder.host} has been working on the stack {stack} since "
            f"{holder.since}: wait for it or end it. If it is long gone: `pulumi cancel -s {stack}`.",
            say.BUSY,
        )
    backend.mend(state, stack)
    begun = backend.pending(state, stack)
    if not begun:
        return
    say.line(f"a killed command had begun to create {len(begun)} thing(s): asking what is there")
    # Creating adopts what an earlier, unrecorded create made, so forgetting the attempt loses nothing.
    refresh = [
        "pulumi",
        "refresh",
        "-s",
        stack,
        "--yes",
        "--skip-preview",
        "--clear-pending-creates",
    ]
    if _run(refresh, settings):
        say.line("that refresh failed; going on, since the command itself may do better")
    if adopt and _run(["pulumi", "up", "-s", stack, "--yes", "--skip-preview"], settings):
        # Destroy ends only what the state knows, so the half-made things must get into it first.
        say.line("could not complete what was begun; destroying what is known")


def _run(command: list[str], settings: dict[str, str]) -> int:
    """Run a command of .venv or the engine from the checkout. Ctrl-C reaches it from the terminal; we wait for it."""
    program = shutil.which(command[0], path=settings["PATH"])
    if not program:
        say.stop(f"`{command[0]}` is not there after set-up: `make clean` and run this again.")
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.Popen([program, *command[1:]], cwd=places.CHECKOUT, env=settings).wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return 128 - status if status < 0 else status


def _recorded() -> engine.Engine | None:
    try:
        record = json.loads(_RECORD.read_text())
    except (OSError, ValueError):
        return None
    return engine.from_record(record) if record.get("for") == engine.fingerprint() else None


def _record(chosen: engine.Engine) -> None:
    part = Path(f"{_RECORD}.{os.getpid()}")
    part.write_text(json.dumps({"for": engine.fingerprint(), **chosen._asdict()}))
    part.replace(_RECORD)
