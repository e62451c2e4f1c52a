"""Whatever happens in whatever order, a receipt means that a restore gives back exactly what was there.

Hypothesis draws what people, machines and disks do: work, saves and evacuations that are killed, a store that goes
away and comes back, flipped bits, lost memory, a workspace that is gone. The verbs run as real processes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from forking import Outcome
from leased import TAG, Lab, leased, picture
from stackyard.evacuation.evacuating import sealed
from stackyard.evacuation.failpoints import EVACUATING, SAVING, THAWING, VARIABLE
from tally import Tally

SEED = int(os.environ.get("STACKYARD_SEED", "20261121"))
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a write waits for no disk, which is what most of the time would go to."""
NAMES = st.sampled_from(["a", "deep/b", "deep/er/x\ny", "\udcff"])
SIZES = st.sampled_from([0, 1, 700, 70_000, 1_100_000])
KILLS = st.none() | st.none() | st.sampled_from(EVACUATING)
Picture = dict[bytes, Any]


class Life(RuleBasedStateMachine):
    """A leased workspace, and all that may happen to it."""

    tally: Tally
    hits: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="stackyard-life-", dir=MEMORY))
        self.lab: Lab = leased(self.base)
        self.tried: list[Picture] = []
        """What the workspace looked like at each save or evacuation, however it ended."""
        self.tried.append({})
        self.sure = 0
        """The first of them that the newest version may be: of the last one that ended well."""
        self.damaged = False
        """Whether something in the store was spoiled since the last proof, and not stored anew."""
        self.found = False
        """Whether a proof found it, so that the next save stores it anew."""
        self.draws = 0
        name, _, value = (self.lab.settings.processes_tag or "").partition("=")
        assert name == TAG
        self.member = subprocess.Popen(["sleep", "1000"], env={**os.environ, name: value}, start_new_session=True)

    def teardown(self) -> None:
        self.member.send_signal(signal.SIGKILL)
        self.member.wait()
        shutil.rmtree(os.fsencode(self.base))

    @property
    def there(self) -> bool:
        return self.lab.workspace.is_dir()

    @property
    def still(self) -> bool:
        """Whether the cluster's processes stand still, so that none of them can write."""
        return Path(f"/proc/{self.member.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def ask(self, verb: str, *arguments: str, kill: str | None = None) -> Outcome:
        answer = self.lab.command(verb, *arguments, environment={VARIABLE: kill or ""})
        assert answer.code in (0, 1, -signal.SIGKILL), answer
        if answer.code == -signal.SIGKILL:
            self.hits[str(kill)] = self.hits.get(str(kill), 0) + 1
        return answer

    def restored(self, what: str) -> tuple[Outcome, Picture]:
        """A version, brought back beside everything else."""
        target = self.base / "back"
        answer = self.lab.command("restore", what, str(target))
        found = picture(target) if target.exists() else {}
        shutil.rmtree(os.fsencode(target), ignore_errors=True)
        return answer, found

    @precondition(lambda self: self.there)
    @rule(name=NAMES, size=SIZES, verb=st.sampled_from(["write", "write", "append", "remove", "again", "mode", "link"]))
    def work(self, name: str, size: int, verb: str) -> None:
        """Somebody changes something; while the cluster stands still, somebody from outside."""
        place = self.lab.workspace / name
        self.draws += 1
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            match verb:
                case "write":
                    place.write_bytes(random.Random(self.draws).randbytes(size))
                case "append":
                    with place.open("ab") as file:
                        file.write(b"more")
                case "remove":
                    place.unlink()
                case "again":
                    os.link(place, self.lab.workspace / f"again-{self.draws}")
                case "link":
                    os.symlink(b"nowhere", os.fsencode(place))
                case _:
                    place.chmod(0o640)
        except OSError:
            return

    @precondition(lambda self: self.there)
    @rule(kill=st.none() | st.sampled_from(SAVING))
    def save(self, kill: str | None) -> None:
        now = self.trying()
        if self.ask("save", kill=kill).code == 0:
            self.sure = len(self.tried) - 1
            self.damaged = self.damaged and not self.found
            if not self.damaged:
                self.holds("latest", now, "a save")

    @precondition(lambda self: self.there)
    @rule(kill=KILLS)
    def evacuate(self, kill: str | None) -> None:
        """Refused, nobody stands still; agreed, a restore gives exactly what is there."""
        now = self.trying()
        answer = self.ask("evacuate", kill=kill)
        if answer.code == 0:
            assert self.still
            self.sure, self.damaged = len(self.tried) - 1, False
            self.holds(answer.told["receipt"], now, "a receipt")
        elif answer.code == 1:
            self.refused(answer)

    @precondition(lambda self: self.there)
    @rule(kill=KILLS)
    def suspend(self, kill: str | None) -> None:
        """Everything is safe and stands still, or everybody goes on."""
        now, was_sealed = self.trying(), sealed(self.lab.settings) is not None
        answer = self.ask("suspend", kill=kill)
        if answer.code == 0:
            assert self.still
            self.sure, self.damaged = len(self.tried) - 1, False
            self.holds("latest", now, "a suspension")
            assert self.ask("receipt").code == 1, "a suspension counts as a receipt"
        elif answer.code == 1 and not was_sealed:
            self.refused(answer)

    def refused(self, answer: Outcome) -> None:
        assert self.damaged, f"it refused without a reason: {answer.told}"
        assert not self.still or sealed(self.lab.settings), f"it refused and left everybody frozen: {answer.told}"
        self.found = True
        self.save(kill=None)  # which stores it anew

    @precondition(lambda self: self.still)
    @rule(kill=st.none() | st.sampled_from(THAWING))
    def thaw(self, kill: str | None) -> None:
        """Refused only while there is a seal."""
        answer = self.ask("thaw", kill=kill)
        if answer.code == 0:
            assert not self.still

    @precondition(lambda self: self.still)
    @rule()
    def reopen(self) -> None:
        """The gate is created again: another generation, then a thaw. No receipt of before says anything."""
        self.lab = self.lab.with_(generation=self.lab.settings.generation + 1)
        assert self.ask("thaw").code == 0
        assert not self.still
        assert self.ask("receipt").code == 1, "a receipt of an earlier generation counts"

    @precondition(lambda self: self.there)
    @rule(verb=st.sampled_from(["save", "evacuate", "suspend", "receipt"]))
    def the_store_is_away_meanwhile(self, verb: str) -> None:
        """One that was saved to; before that nobody knows whether an absent folder was ever there."""
        if not (self.lab.settings.state / "cache.db").exists() or not self.lab.store.exists():
            return
        was_sealed = sealed(self.lab.settings) is not None
        self.lab.store.rename(self.base / "unmounted")
        answer = self.ask(verb)
        assert answer.code == 1, f"{verb} was content without a store"
        assert not self.lab.store.exists(), "an empty store was made in its place"
        assert was_sealed or verb not in ("evacuate", "suspend") or not self.still, "refused, and everybody is frozen"
        (self.base / "unmounted").rename(self.lab.store)

    @rule(which=st.floats(0, 0.999), place=st.floats(0, 0.999), bit=st.integers(0, 7))
    def bit_flips(self, which: float, place: float, bit: int) -> None:
        """In any stored copy; more often in a newer one, of which more is in the newest version."""
        if packs := sorted(self.lab.packs(), key=lambda path: -path.stat().st_mtime_ns):
            pack = packs[int(which**2 * len(packs))]
            content = bytearray(pack.read_bytes())
            content[int(place * len(content))] ^= 1 << bit
            pack.write_bytes(bytes(content))
            self.damaged, self.found = True, False

    @precondition(lambda self: self.there and sealed(self.lab.settings) is not None)
    @rule(which=st.floats(0, 0.999))
    def somebody_writes_after_the_seal(self, which: float) -> None:
        """Into a file that is there, so that no folder shows it: the receipt holds no more."""
        files = sorted(path for path in self.lab.workspace.rglob("*") if path.is_file() and not path.is_symlink())
        if files:
            with files[int(which * len(files))].open("ab") as file:
                file.write(b"late")
            assert self.ask("receipt").code == 1, "a receipt counts for what was written after it"

    @rule()
    def memory_is_lost(self) -> None:
        """The saver's own, but not who stands still."""
        for path in self.lab.settings.state.glob("cache.db*"):
            path.unlink()

    @precondition(lambda self: self.there and self.still)
    @rule()
    def cluster_is_deleted(self) -> None:
        """As the cluster's Delete does: only when it may go."""
        now = picture(self.lab.workspace)
        answer = self.ask("receipt")
        if answer.code == 0:
            shutil.rmtree(os.fsencode(self.lab.workspace))
            if not self.damaged:
                self.holds(answer.told["receipt"]["place"], now, "a cluster that was taken away")
            self.begin_anew()

    @precondition(lambda self: self.there and self.sure)
    @rule()
    def workspace_is_lost(self) -> None:
        """Nobody ran a destroy: what is newer than the newest version is gone, nothing else."""
        shutil.rmtree(os.fsencode(self.lab.workspace))
        if not self.damaged:
            answer, found = self.restored("latest")
            assert answer.code == 0, answer
            assert found in self.tried[self.sure :], "the newest version is older than the last save"
        self.begin_anew()

    @invariant()
    def a_restore_never_gives_what_was_never_there(self) -> None:
        if self.sure and self.damaged:
            answer, found = self.restored("latest")
            if answer.code == 0:
                assert found in self.tried
            contents = {entry[3] for was in self.tried for entry in was.values() if len(entry) == 5}
            assert {entry[3] for entry in found.values() if len(entry) == 5} <= contents

    def trying(self) -> Picture:
        self.tried.append(picture(self.lab.workspace))
        return self.tried[-1]

    def holds(self, what: str, want: Picture, because: str) -> None:
        answer, found = self.restored(what)
        assert answer.code == 0, f"{because} promised a restore that fails: {answer.told}"
        self.counted(found, want, because)
        assert self.ask("verify").code == 0, f"{because}, and something of it in the store is damaged"

    def counted(self, found: Picture, want: Picture, because: str) -> None:
        if found != want:
            wrong = [path for path in found.keys() | want.keys() if found.get(path) != want.get(path)]
            note(f"{because}: {wrong}")
        assert found == want, f"{because} and its restore differ"

    def begin_anew(self) -> None:
        """Another instance in an empty workspace."""
        self.lab.workspace.mkdir()
        instance = f"i-{int(self.lab.settings.instance.partition('-')[2]) + 1}"
        self.lab = self.lab.with_(instance=instance, generation=1)
        assert self.ask("thaw").code == 0


def live(tally: Tally, examples: int, steps: int, drawn_from: int) -> dict[str, int]:
    """Run so many lives; how often each failpoint was hit."""
    hits = dict[str, int]()
    machine = type("Life", (Life,), {"tally": tally, "hits": hits})
    tally.seeds["test_faults"] = drawn_from
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        print_blob=True,
    )
    run_state_machine_as_test(seed(drawn_from)(machine), settings=chosen)
    return hits


@pytest.mark.slow
def test_a_receipt_means_that_a_restore_gives_back_exactly_what_was_there(tally: Tally) -> None:
    """Slow: hundreds of processes. Shows what no single fault shows: that no order of faults makes a receipt a lie."""
    live(tally, 8, 12, SEED)


@pytest.mark.slow
@pytest.mark.lifecycle
@pytest.mark.timeout(1800)
def test_many_lives_long(tally: Tally) -> None:
    """Slow: thousands of processes, drawn anew by STACKYARD_SEED, and every failpoint hit."""
    hits = live(tally, 80, 25, SEED + 1)
    assert hits.keys() >= {*SAVING, *EVACUATING}
