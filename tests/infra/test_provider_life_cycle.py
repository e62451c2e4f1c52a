"""Pulumi's questions, answered alike for every kind of resource."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue

from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.kinds import Kind, Plain
from stackyard_infra.provider.lifecycle import StackyardProvider
from stackyard_infra.provider.server import sentence
from stackyard_infra.provider.values import UNKNOWN, plain, wrapped

URN = "urn:pulumi:local::stackyard::stackyard:local:Supervision$stackyard:index:Lamp::lamp"
SITE = {"stack": "local", "stack_id": "0123abcd", "state": "/s", "runtime": "/r"}


class Lamp(Kind):
    """A kind whose world is a dict."""

    outputs: ClassVar[tuple[str, ...]] = ("lit",)
    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "room"})

    def __init__(self) -> None:
        self.world: dict[str, str] = {}

    def name(self, inputs: Plain) -> str:
        return f"lamp/{inputs['room']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        if inputs["colour"] == "black":
            raise Refusal("A lamp cannot be black: choose a colour.")
        self.world[inputs["room"]] = inputs["colour"]
        return {"lit": True}

    def read(self, state: Plain) -> dict[str, Any] | None:
        colour = self.world.get(state["room"])
        return None if colour is None else {"colour": colour}

    def drift(self, state: Plain) -> set[str]:
        return set() if state["lit"] else {"lit"}

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self.create(inputs)

    def delete(self, state: Plain) -> None:
        self.world.pop(state["room"], None)


class Engine:
    """Asks a provider the way the engine does, for one lamp."""

    def __init__(self) -> None:
        self.lamp = Lamp()
        self.provider = StackyardProvider({"stackyard:index:Lamp": self.lamp})

    def create(self, inputs: dict[str, PropertyValue], *, preview: bool = False) -> protocol.CreateResponse:
        return asyncio.run(self.provider.create(protocol.CreateRequest(URN, inputs, 0, preview)))

    def diff(self, state: dict[str, PropertyValue], inputs: dict[str, PropertyValue]) -> protocol.DiffResponse:
        return asyncio.run(self.provider.diff(protocol.DiffRequest(URN, "id", state, inputs, [])))

    def read(self, state: dict[str, PropertyValue], inputs: dict[str, PropertyValue]) -> protocol.ReadResponse:
        return asyncio.run(self.provider.read(protocol.ReadRequest(URN, "id", state, inputs)))

    def update(
        self, state: dict[str, PropertyValue], inputs: dict[str, PropertyValue], *, preview: bool = False
    ) -> protocol.UpdateResponse:
        return asyncio.run(self.provider.update(protocol.UpdateRequest(URN, "id", state, inputs, 0, [], preview)))


def lamp(room: str = "hall", colour: str = "red") -> dict[str, PropertyValue]:
    return {"site": wrapped(SITE), "room": wrapped(room), "colour": wrapped(colour)}


def test_an_id_comes_from_stack_and_name_so_that_a_killed_create_finds_its_work_again():
    engine = Engine()
    assert engine.create(lamp()).resource_id == "0123abcd/lamp/hall" == engine.create(lamp()).resource_id


def test_nothing_differs_right_after_create():
    engine = Engine()
    state = engine.create(lamp()).properties
    answer = engine.diff(engine.read(state, lamp()).properties, lamp())
    assert not answer.changes
    assert not answer.diffs
    assert not answer.replaces


@pytest.mark.parametrize(
    ("inputs", "diffs", "replaces"),
    [
        pytest.param(lamp(colour="blue"), ["colour"], [], id="in-place"),
        pytest.param(lamp(room="attic"), ["room"], ["room"], id="another-thing"),
        pytest.param(lamp(colour=UNKNOWN), ["colour"], [], id="not-known-yet"),
    ],
)
def test_a_diff_names_what_changed_and_nothing_else(
    inputs: dict[str, PropertyValue], diffs: list[str], replaces: list[str]
):
    engine = Engine()
    answer = engine.diff(engine.create(lamp()).properties, inputs)
    assert (answer.changes, answer.diffs, answer.replaces) == (True, diffs, replaces)
    assert answer.delete_before_replace == bool(replaces)


def test_what_the_world_changed_by_itself_is_a_diff_too():
    engine = Engine()
    state = engine.create(lamp()).properties
    assert engine.diff(state | {"lit": wrapped(False)}, lamp()).diffs == ["lit"]
    engine.lamp.world["hall"] = "green"
    assert engine.diff(engine.read(state, lamp()).properties, lamp()).diffs == ["colour"]


def test_a_thing_that_is_gone_reads_as_gone():
    engine = Engine()
    state = engine.create(lamp()).properties
    engine.lamp.world.clear()
    assert not engine.read(state, lamp()).resource_id


def test_a_preview_touches_nothing_and_knows_what_it_cannot_know():
    engine = Engine()
    answer = engine.create(lamp(), preview=True)
    assert engine.lamp.world == {}
    assert plain(answer.properties["lit"]) == UNKNOWN
    state = engine.create(lamp()).properties
    foreseen = engine.update(state, lamp(colour="blue"), preview=True).properties
    assert engine.lamp.world == {"hall": "red"}
    assert plain(foreseen["lit"]) is True, "an output that an update keeps must not look unknown to others"


def test_a_secret_stays_one_through_every_answer():
    engine = Engine()
    inputs = lamp() | {"colour": PropertyValue("red", is_secret=True)}
    state = engine.create(inputs).properties
    assert state["colour"].is_secret
    assert engine.update(state, inputs).properties["colour"].is_secret


def test_a_refusal_is_its_own_sentence_and_a_fault_says_where_its_traceback_is(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = Engine()
    with pytest.raises(Refusal) as refused:
        engine.create(lamp(colour="black"))
    assert sentence(refused.value) == "A lamp cannot be black: choose a colour."
    said = sentence(ZeroDivisionError("division by zero"))
    [log] = tmp_path.iterdir()
    assert "\n" not in said
    assert str(log) in said
    assert "ZeroDivisionError" in log.read_text()


def test_a_resource_that_nobody_knows_is_refused():
    with pytest.raises(Refusal, match="knows no resource"):
        asyncio.run(Engine().provider.check(protocol.CheckRequest(URN.replace("Lamp", "Lump"), {}, {}, b"")))


@pytest.mark.parametrize(
    "value",
    [True, 3, 2.5, "text", None, [1, "a"], {"a": [1], "b": {"c": None}}],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_went(value: object):
    assert plain(wrapped(value)) == value
