"""Which model a replica serves, release by release, with a trial that costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stackyard.serving.follower import FIRST_RETRY, Follower
from stackyard.serving.metrics import Metrics
from stackyard.serving.screening import RefusedError
from stackyard.store import layout


class Trial:
    """Counts trials; refuses the bundles it is told to."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.bad: set[str] = set()

    def __call__(self, folder: Path, bundle: str, code_folder: Path) -> None:
        self.tried.append(bundle)
        if bundle in self.bad:
            raise RefusedError("it died")


class Replica:
    """A follower and what it installed."""

    def __init__(self, yard: Any, trial: Trial, cache: str = "cache") -> None:
        self.served: list[str] = []
        self.metrics = Metrics()
        self.follower = Follower(
            yard.model,
            yard.store.url,
            yard.trusted,
            yard.folder / cache,
            self.metrics,
            lambda model, release: self.served.append(model.bundle),
            trial,
        )
        self.follower.start()
        self.follower.stop()  # from here on the test polls

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"stackyard_{name}_total") or 0.0


@pytest.fixture
def trial() -> Trial:
    return Trial()


def test_nothing_is_served_before_the_first_release_and_then_each_new_champion(yard: Any, trial: Trial) -> None:
    replica = Replica(yard, trial)
    assert replica.served == []
    first, second = yard.publish(seed=1), yard.publish(seed=2)
    for digest in (first, second, second, first):  # the third confirms, the fourth rolls back
        yard.release(digest)
        replica.follower.poll()
    assert replica.served == [first, second, second, first] and replica.count("model_swaps") == 3
    assert (replica.follower.number, replica.follower.failure) == (4, None)


def test_a_champion_that_fails_is_told_counted_and_not_retried_in_a_hurry(yard: Any, trial: Trial) -> None:
    good, bad, better = yard.publish(seed=1), yard.publish(seed=2), yard.publish(seed=3)
    yard.release(good)
    replica = Replica(yard, trial)
    trial.bad.add(bad)
    yard.release(bad)
    for now in (0.0, 0.5, FIRST_RETRY - 0.1, FIRST_RETRY + 0.1, 2 * FIRST_RETRY, 3 * FIRST_RETRY + 0.2):
        replica.follower.poll(now)
    assert trial.tried.count(bad) == 3
    assert replica.count("model_load_failures") == 3
    assert replica.served == [good] and "it died" in str(replica.follower.failure)
    yard.release(better)
    replica.follower.poll(3 * FIRST_RETRY + 0.3)
    assert replica.served == [good, better] and replica.follower.failure is None


def test_a_release_of_a_key_that_is_not_trusted_changes_nothing(yard: Any, trial: Trial) -> None:
    yard.release(yard.publish(seed=1))
    replica = Replica(yard, trial)
    yard.key, trusted = Ed25519PrivateKey.generate(), yard.key
    data = yard.store.read(layout.release(yard.model, 1))
    yard.store.create(layout.release(yard.model, 2), data.replace(b'"number":1', b'"number":2'))
    replica.follower.poll()
    assert (replica.follower.number, len(replica.served)) == (1, 1)
    assert replica.count("store_failures") == 1 and "bad signature" in str(replica.follower.failure)
    yard.key = trusted


def test_a_replica_starts_from_its_cache_while_the_store_is_away(yard: Any, trial: Trial) -> None:
    digest = yard.publish()
    yard.release(digest)
    Replica(yard, trial)
    away = yard.folder / "away"
    Path(yard.store.url).rename(away)
    replica = Replica(yard, trial)
    assert replica.served == [digest]
    assert trial.tried == [digest]  # what proved itself on this machine need not do so again
    assert not Path(yard.store.url).exists()
    away.rename(yard.store.url)
    yard.release(newer := yard.publish(seed=5))
    replica.follower.poll()
    assert replica.served == [digest, newer]


def test_a_store_that_forgot_releases_does_not_bring_an_older_model_back(yard: Any, trial: Trial) -> None:
    old, new = yard.publish(seed=1), yard.publish(seed=2)
    yard.release(old)
    yard.release(new)
    Replica(yard, trial)
    yard.store.delete(layout.release(yard.model, 2))
    replica = Replica(yard, trial)
    replica.follower.poll()
    assert replica.served == [new]


@pytest.mark.parametrize("content", [pytest.param(b"", id="empty"), pytest.param(b'{"kind":"release"}', id="unsigned")])
def test_a_cached_release_that_is_broken_is_of_no_consequence(yard: Any, trial: Trial, content: bytes) -> None:
    yard.release(digest := yard.publish())
    (yard.folder / "cache").mkdir()
    (yard.folder / "cache" / f"release-{yard.model}.json").write_bytes(content)
    assert Replica(yard, trial).served == [digest]


def test_an_altered_bundle_in_the_cache_is_fetched_anew(yard: Any, trial: Trial) -> None:
    yard.release(digest := yard.publish())
    Replica(yard, trial)
    model = yard.folder / "cache" / "bundles" / digest / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    assert Replica(yard, trial).served == [digest]
