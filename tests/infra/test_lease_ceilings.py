"""A ceiling on what is lent at once: no creation, resumption or growth gets past it, at no instant."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from creating import Bare, Creator, clusters
from stackyard_infra.provider import tagged
from stackyard_infra.provider.ceilings import Ceiling, Size, places_folder
from stackyard_infra.provider.errors import Refusal

NOBODY = "STACKYARD_CLUSTER=00000000/nobody"
SMALL = Size(1, 1, 0)
BY_SOMEBODY_GONE = [2**22 + 1, 1]


class Street:
    """Clusters' folders side by side, and the places that they have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = folder / "places"

    def asks(self, name: str, size: Size = SMALL, **limits: int | None) -> None:
        cluster = self.folder / name
        cluster.mkdir(exist_ok=True)
        Ceiling(limits, self.places).admit(name, cluster, NOBODY, size)

    def told(self, name: str, **record: Any) -> None:
        (self.folder / name / "instance.json").write_text(json.dumps({"instance": "i", "generation": 1, **record}))

    def forgets_who_asked(self) -> None:
        for file in self.places.glob("*.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"by": BY_SOMEBODY_GONE}))

    def names(self) -> list[str]:
        return sorted(file.stem for file in self.places.glob("*.json"))


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path)


@pytest.mark.parametrize(
    ("limits", "size", "told"),
    [
        pytest.param({"clusters": 1}, Size(1, 1, 0), "would come to 2 clusters, and the ceiling is 1", id="clusters"),
        pytest.param({"cpus": 12}, Size(2, 3, 0), "would come to 14 cpus, and the ceiling is 12", id="cpus"),
        pytest.param({"gpus": 4}, Size(3, 1, 1), "would come to 5 gpus, and the ceiling is 4", id="gpus"),
        pytest.param({"clusters": 2, "cpus": 14, "gpus": 2}, Size(2, 3, 0), None, id="just-fits"),
        pytest.param({}, Size(64, 1024, 64), None, id="no-ceiling"),
        pytest.param({"clusters": None, "cpus": None, "gpus": None}, Size(64, 1024, 64), None, id="none-said"),
    ],
)
def test_what_would_be_too_much_is_refused_by_name(
    limits: dict[str, int | None], size: Size, told: str | None, street: Street
):
    street.asks("s1-first", Size(2, 4, 1))
    if told is None:
        street.asks("s1-lab", size, **limits)
        return
    with pytest.raises(Refusal, match=told) as refused:
        street.asks("s1-lab", size, **limits)
    assert str(refused.value).startswith("Cluster lab is not opened")
    assert "open now: s1-first" in str(refused.value)
    assert street.names() == ["s1-first"]


def test_what_has_a_place_keeps_it_under_a_lower_ceiling_and_may_shrink_but_not_grow(street: Street):
    street.asks("s1-lab", Size(4, 2, 0))
    street.asks("s1-lab", Size(4, 2, 0), cpus=4)
    street.asks("s1-lab", Size(3, 2, 0), cpus=4)
    with pytest.raises(Refusal, match="would come to 8 cpus"):
        street.asks("s1-lab", Size(4, 2, 0), cpus=4)


def test_while_it_shrinks_it_keeps_the_bigger_place(street: Street):
    street.asks("s1-lab", Size(4, 1, 2))
    Ceiling({}, street.places).admit("s1-lab", street.folder, NOBODY, Size(1, 2, 0), keep=True)
    assert Ceiling({}, street.places).used() == {"clusters": 1, "cpus": 8, "gpus": 8}


@pytest.mark.parametrize(
    ("happens", "lets_go"),
    [
        pytest.param("its folder is gone", True, id="folder-gone"),
        pytest.param("it is sealed", True, id="sealed"),
        pytest.param("it is suspended", True, id="suspended"),
        pytest.param("an earlier opening was suspended", False, id="suspended-before"),
        pytest.param("it is suspended, its end not yet written", False, id="being-suspended"),
        pytest.param("it is open", False, id="open"),
        pytest.param("its folder is gone, it runs", False, id="runs-without-folder"),
        pytest.param("its folder is gone, who asked lives", False, id="being-opened"),
        pytest.param("it is of another boot", True, id="another-boot"),
    ],
)
def test_a_place_is_dropped_only_when_it_certainly_holds_nothing(happens: str, lets_go: bool, street: Street):
    street.asks("s1-first")
    street.told("s1-first", sealed=happens == "it is sealed")
    if "suspended" in happens:
        generation = 0 if "earlier" in happens else 1
        (street.folder / "s1-first/suspended.json").write_text(json.dumps({"instance": "i", "generation": generation}))
    if "not yet" in happens:
        (street.folder / "s1-first/usage.jsonl").write_text('{"what": "opened", "at": "2027-01-01T00:00:00+00:00"}\n')
    if "who asked lives" not in happens:
        street.forgets_who_asked()
    if "another boot" in happens:
        place = street.places / "s1-first.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"where": "elsewhere"}))
    if "folder is gone" in happens:
        shutil.rmtree(street.folder / "s1-first")
    name, _, value = NOBODY.partition("=")
    runs = subprocess.Popen(["sleep", "60"], env={name: value}) if "it runs" in happens else None
    try:
        if lets_go:
            street.asks("s1-lab", clusters=1)
        else:
            with pytest.raises(Refusal, match="2 clusters"):
                street.asks("s1-lab", clusters=1)
    finally:
        if runs is not None:
            runs.kill()
            runs.wait()


@pytest.mark.parametrize(
    ("told", "where"),
    [
        pytest.param("/elsewhere", "/elsewhere/stackyard/leases", id="told"),
        pytest.param("relative", "/home/ada/.local/state/stackyard/leases", id="relative-is-not-told"),
        pytest.param("", "/home/ada/.local/state/stackyard/leases", id="untold"),
    ],
)
def test_places_are_kept_in_the_users_own_state(told: str, where: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", told)
    monkeypatch.setenv("HOME", "/home/ada")
    assert places_folder() == Path(where)


CEILING, CREATORS, THREADS = 3, 3, 4


class Crowd:
    """Processes that create and take away clusters as fast as they can, killed and begun anew all the time."""

    def __init__(self, site: dict[str, str], folder: Path, *, bare: bool) -> None:
        self.outcomes, self.site = folder / "outcomes.txt", site
        (folder / "store").mkdir()
        self.outcomes.touch()
        ceiling = {"clusters": CEILING, "cpus": None, "gpus": None}
        common = {"site": site, "store": str(folder / "store"), "ceiling": ceiling, "outcomes": str(self.outcomes)}
        common |= {"bare": bare}
        self.jobs: list[dict[str, Any]] = []
        for number in range(CREATORS):
            self.jobs.append(common | {"names": [f"c{number}-{thread}" for thread in range(THREADS)]})
            (folder / f"job-{number}.json").write_text(json.dumps(self.jobs[-1]))
        self._folder, self.kills = folder, 0
        self._running = [self._begun(number) for number in range(CREATORS)]

    def is_disturbed(self) -> None:
        number = random.randrange(CREATORS)
        self._end(self._running[number])
        self.kills += 1
        self._running[number] = self._begun(number)

    def ends(self) -> None:
        for process in self._running:
            self._end(process)

    def clusters(self) -> list[Creator | Bare]:
        return [creator for job in self.jobs for creator in clusters(job)]

    def open_at_one_instant(self) -> set[str]:
        """Clusters that ran at the moment at which all were looked at: seen before it, and alive after it."""
        seen: list[tuple[psutil.Process, str]] = []
        wanted = f"STACKYARD_CLUSTER={self.site['stack_id']}/".encode()
        for process in psutil.process_iter():
            try:
                entries = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            seen += [(process, entry.decode()) for entry in entries if entry.startswith(wanted)]
        return {name for process, name in seen if _lives(process)}

    def _begun(self, number: int) -> subprocess.Popen[bytes]:
        program = Path(__file__).parents[1] / "support/creating.py"
        command = [sys.executable, str(program), str(self._folder / f"job-{number}.json")]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()


@pytest.fixture
def crowd(request: pytest.FixtureRequest, site: dict[str, str], tmp_path: Path) -> Iterator[Crowd]:
    made = Crowd(site, tmp_path, bare=request.param == "bare")
    yield made
    made.ends()
    tagged.end(site["stack_id"], grace=0)
    for creator in made.clusters():
        creator.goes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("crowd", "between", "kills"),
    [
        pytest.param("bare", 8, 6, id="the-ceiling-alone"),
        pytest.param("kinds", 1, 6, id="clusters-and-gates", marks=pytest.mark.lifecycle),
    ],
    indirect=["crowd"],
)
def test_no_loop_of_creations_gets_past_the_ceiling_at_any_instant(crowd: Crowd, between: int, kills: int):
    """Slow (twelve threads in three processes, killed and begun anew), and worth it: only a crowd that is disturbed at
    any moment shows that no order of its steps lets one through."""
    seen: list[int] = []
    deadline, at_last_kill = time.monotonic() + 300, 0
    while crowd.kills < kills or max(seen) < CEILING:
        assert time.monotonic() < deadline, f"{crowd.kills} kills, {at_last_kill} opened in 300 s"
        seen.append(len(crowd.open_at_one_instant()))
        told = crowd.outcomes.read_text().splitlines().count("opened")
        if told - at_last_kill >= between * random.uniform(0.5, 1.0):  # by what was done: a busy machine is no error
            crowd.is_disturbed()
            at_last_kill = told
    crowd.ends()
    outcomes = crowd.outcomes.read_text().splitlines()
    told = f"{len(seen)} looks, {outcomes.count('opened')} opened, {outcomes.count('refused')} refused"
    assert max(seen) == CEILING, f"it was reached, and never passed ({told})"
    assert set(outcomes) == {"opened", "refused"}
    for creator in crowd.clusters():
        creator.goes()
    assert not crowd.open_at_one_instant()
    assert not list(places_folder().glob("*.json")), "every place was given back"
    for creator in crowd.clusters()[:CEILING]:
        creator.opens()
    with pytest.raises(Refusal, match=f"the ceiling is {CEILING}"):
        crowd.clusters()[CEILING].opens()
    assert len(crowd.open_at_one_instant()) == CEILING
    print(told)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
