"""Only a checkpoint whose every byte is the one that was written is resumed from."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackyard.store.objects import Store
from stackyard.training.checkpoints import Checkpoint, Checkpoints


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def test_the_newest_checkpoint_comes_back_as_it_was(store: Store) -> None:
    for number in (5, 10):
        Checkpoints(store, "r", "recipe").save(Checkpoint("trial", number, b"model\n%d" % number, (0.5, 0.25)))
    Checkpoints(store, "r", "recipe").save(Checkpoint("final", 99, b"other"))
    found = Checkpoints(store, "r", "recipe").newest("trial")
    assert found == Checkpoint("trial", 10, b"model\n10", (0.5, 0.25))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="one-bit"),
        pytest.param(lambda data: b"0" * 64 + data[64:], id="other-digest"),
    ],
)
def test_a_broken_newest_is_passed_over_with_a_warning(store: Store, damage) -> None:
    checkpoints = Checkpoints(store, "r", "recipe")
    for number in (5, 10):
        checkpoints.save(Checkpoint("trial", number, b"model"))
    key = "runs/r/checkpoints/trial-000010"
    store.write(key, damage(store.read(key)))
    found = checkpoints.newest("trial")
    assert found is not None
    assert found.round == 5
    assert checkpoints.warnings == ["checkpoint trial-000010 is not used: its bytes are not those that were written"]
    checkpoints.save(Checkpoint("trial", 10, b"model"))
    assert checkpoints.at("trial", 10).round == 10


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_altered_byte_goes_unnoticed(store: Store, place: int, flip: int) -> None:
    checkpoints = Checkpoints(store, "r", "recipe")
    checkpoints.save(Checkpoint("trial", 5, bytes(range(256)), (0.1,)))
    data = bytearray(store.read("runs/r/checkpoints/trial-000005"))
    data[place % len(data)] ^= flip
    store.write("runs/r/checkpoints/trial-000005", bytes(data))
    assert checkpoints.newest("trial") is None


def test_checkpoints_of_another_recipe_are_not_seen(store: Store) -> None:
    Checkpoints(store, "r", "one").save(Checkpoint("trial", 5, b"model"))
    other = Checkpoints(store, "r", "other")
    assert other.newest("trial") is None
    assert other.warnings == []
    other.clear()
    assert list(store.keys("runs/r")) == []
