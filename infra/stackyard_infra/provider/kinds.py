"""What a kind of resource must answer; the life cycle around it is the same for all (`lifecycle.py`).

A kind deals in plain dicts: `inputs` are what the program asked for, `state` is inputs and outputs together as Pulumi
remembers them. Every method may be called again after it was killed half-way, and must then converge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

Plain = Mapping[str, Any]


class Kind:
    """One kind of resource."""

    outputs: ClassVar[tuple[str, ...]] = ()
    """Names that `create` and `update` add to the inputs."""

    replaced_by: ClassVar[frozenset[str]] = frozenset({"site"})
    """Inputs whose change means another thing, not the same thing changed."""

    def name(self, inputs: Plain) -> str:
        """What tells this resource from its siblings in one stack; its id is `<stack id>/<name>`, for ever."""
        raise NotImplementedError

    def create(self, inputs: Plain) -> dict[str, Any]:
        """Adopt what is there or make it, wait until it is sound; returns the outputs. Raises Refusal."""
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        """What of `state` is different in the world ({}: nothing), or None when it is gone."""
        return {}

    def drift(self, state: Plain) -> set[str]:
        """Outputs that say by themselves that an update is needed."""
        return set()

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        """Make the change, and no other; returns the outputs. Raises Refusal."""
        return {}

    def foresee(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        """Outputs as far as a preview of `update` knows them."""
        return {key: state[key] for key in self.outputs if key in state}

    def delete(self, state: Plain) -> None:
        """End it, and see that it is gone. Raises Refusal when it is not."""


def changed(state: Plain, inputs: Plain) -> set[str]:
    """Inputs that differ from the state, or that it does not hold."""
    return {key for key in inputs if key not in state or state[key] != inputs[key]}
