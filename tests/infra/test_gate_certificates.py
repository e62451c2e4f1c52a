"""A leased cluster goes with a certificate, wherever its deletion was killed; one that the store lost stays.

Slow (a process for each question), and worth it: only the platform's own evacuation and certificates show that what is
set aside is enough. Nothing runs in the cluster, so no supervisor is needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackyard_infra.provider.certificates import Certificates
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.places import SiteKind
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.workspaces import Workspace

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Stands for kill -9: nothing after it is done."""


class Lent:
    """A leased cluster with work in it, whose gate has let it go."""

    def __init__(self, site: dict[str, str], store: Path) -> None:
        self.site, self.store = site, store
        store.mkdir()
        self.here = Workspace(Site.of({"site": site}), "lab")
        self.clusters, self.gates = LeasedClusterKind(), EvacuationGateKind()
        size = {"workers": 1, "cpus": 2, "gpus": 0, "budget": {"hourly_price": 3.0}}
        inputs: dict[str, Any] = {
            "site": site,
            "cluster": "lab",
            "store": str(store),
            "evacuation": {"store": str(store), "every": 3600.0},
            "processes": [],
            "lease": {"cluster": "lab", "owner": "ada", "every": 3600.0, "lease": {"ttl": 3600.0}, **size},
            "ledger": {"subject": "cluster", "cluster": "lab", "store": str(store), "hourly_price": 3.0},
        }
        self.state = inputs | self.clusters.create(inputs)
        self.gate = {"site": site, "cluster": "lab", "instance": self.state["instance"], "store": str(store)}
        self.gates.create(self.gate)
        (self.here.path / "model.txt").write_text("work")

    def evacuate(self) -> None:
        self.gates.delete(self.gate)

    def certificates(self) -> list[dict[str, Any]]:
        folder = Path(self.site["state"]) / "certificates"
        found = [json.loads(path.read_text())["body"] for path in sorted(folder.glob("cluster-*.json"))]
        assert not list((folder / "pending").glob("*")), "nothing waits for a certificate any more"
        return found


@pytest.fixture
def lent(site: dict[str, str], tmp_path: Path) -> Lent:
    return Lent(site, tmp_path / "store")


def _killed(owner: type, name: str, *, after: bool) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        act = getattr(owner, name)

        def dying(*arguments: Any) -> None:
            if after:
                act(*arguments)
            raise Killed

        patch.setattr(owner, name, dying)

    return plant


def _half_removed(patch: pytest.MonkeyPatch) -> None:
    def dying(here: Workspace) -> None:
        here.path.rename(here.folder / ".removed-1")
        (here.folder / "instance.json").unlink()
        shutil.rmtree(here.folder / "saver")
        raise Killed

    patch.setattr(Workspace, "remove", dying)


MOMENTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before-anything-is-removed": _killed(Workspace, "seal", after=False),
    "half-removed": _half_removed,
    "removed-and-not-certified": _killed(Certificates, "of_cluster", after=False),
    "certified-and-not-answered": _killed(Certificates, "of_cluster", after=True),
}


QUICK = ("half-removed", "removed-and-not-certified")
"""The moments that `make test` shows; the others are of the life-cycle suite."""


@pytest.mark.parametrize(
    "word", [pytest.param(word, marks=() if word in QUICK else pytest.mark.lifecycle) for word in MOMENTS]
)
def test_a_deletion_killed_anywhere_is_followed_by_one_that_ends_with_a_clean_certificate(word: str, lent: Lent):
    lent.evacuate()
    with pytest.MonkeyPatch.context() as patch:
        MOMENTS[word](patch)
        with pytest.raises(Killed):
            lent.clusters.delete(lent.state)
    lent.clusters.delete(lent.state)
    assert not lent.here.folder.exists()
    (found,) = lent.certificates()
    assert (found["verdict"], found["clean"], found["instance"]) == ("clean", True, lent.state["instance"])
    assert found["receipt"]["files"] == 1
    assert found["usage"]["openings"] == 1
    SiteKind().delete({"site": lent.site})
    stack = json.loads((Path(lent.site["state"]) / "certificates/stack-0001.json").read_text())["body"]
    assert (stack["verdict"], [each["cluster"] for each in stack["clusters"]]) == ("clean", ["lab"])


def test_a_cluster_whose_stored_work_was_damaged_after_its_gate_stays(lent: Lent):
    lent.evacuate()
    pack = max(lent.store.glob("workspaces/*/packs/*/*"), key=lambda path: path.stat().st_size)
    pack.write_bytes(pack.read_bytes()[:-1] + b"?")
    with pytest.raises(Refusal, match=r"(?s)lab is not taken away: the store does not hold.*pack \w+ is"):
        lent.clusters.delete(lent.state)
    assert (lent.here.path / "model.txt").read_text() == "work"

    # Another gate opens it again, and the next evacuation finds and mends the damage.
    lent.gates.create(lent.gate)
    with pytest.raises(Refusal, match="the next save stores it anew"):
        lent.evacuate()
    lent.evacuate()
    lent.clusters.delete(lent.state)
    assert [each["verdict"] for each in lent.certificates()] == ["clean"]


def test_a_folder_that_somebody_removed_is_no_clean_end(lent: Lent):
    shutil.rmtree(lent.here.folder)
    lent.gates.delete(lent.gate)
    with pytest.raises(Refusal, match="LOST: 0 leaked, 1 lost"):
        lent.clusters.delete(lent.state)
    lent.clusters.delete(lent.state)
    assert {each["verdict"] for each in lent.certificates()} == {"lost"}
