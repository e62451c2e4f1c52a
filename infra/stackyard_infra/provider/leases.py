"""Kinds that hold people's work: a leased cluster, and the gate that is deleted before it in every order of steps.

The gate takes the cluster's instance as a property and answers "replace" to any change, so the engine deletes it first
whenever the cluster is deleted or replaced. Its Delete saves, verifies and seals, or refuses. The cluster's own Delete
believes nobody: it asks again for a receipt or a discard of this instance and generation, and a receipt holds only if
nothing was written since. A cluster without a gate is never open, so an `up` killed between the two loses nothing.
A cluster that was suspended is sound as it is: it keeps its gate, and neither starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from stackyard_infra.provider.certificates import MODULE as CERTIFICATES
from stackyard_infra.provider.certificates import Certificates
from stackyard_infra.provider.daemon import Daemon
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.evacuation import MODULE, Evacuation
from stackyard_infra.provider.kinds import Kind, Plain
from stackyard_infra.provider.site import Site
from stackyard_infra.provider.standing import MODULE as LEASING
from stackyard_infra.provider.standing import refuse_over
from stackyard_infra.provider.values import UNKNOWN
from stackyard_infra.provider.workspaces import Workspace


class _OfWorkspace(Kind):
    """What both kinds stand on."""

    def __init__(
        self,
        daemon: Callable[[Site], Daemon] = Daemon,
        evacuation: Sequence[str] = MODULE,
        leasing: Sequence[str] = LEASING,
        certificates: Sequence[str] = CERTIFICATES,
    ) -> None:
        self._daemon, self._command, self._leasing = daemon, evacuation, leasing
        self._certify = certificates

    def _workspace(self, properties: Plain) -> Workspace:
        return Workspace(Site.of(properties), properties["cluster"], self._daemon)

    def _evacuation(self, here: Workspace, properties: Plain) -> Evacuation:
        return Evacuation(here.prepare(properties.get("store")), self._command)


class LeasedClusterKind(_OfWorkspace):
    """A workspace and the processes around it. Moving the checkout or resizing changes it in place."""

    outputs: ClassVar[tuple[str, ...]] = ("instance", "healthy")
    replaced_by: ClassVar[frozenset[str]] = frozenset({"cluster"})

    def name(self, inputs: Plain) -> str:
        return f"cluster/{inputs['cluster']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        """Adopt the workspace that lies there, whoever made it, or make an empty one; opening it is the gate's."""
        return self._make(inputs)

    def read(self, state: Plain) -> dict[str, Any] | None:
        here = self._workspace(state)
        record = here.record()
        if record is None:
            # Work whose instance nobody knows is unsaved, not absent.
            return None if here.empty() else {"instance": "", "healthy": False}
        rests = here.sealed() or here.suspended() is not None
        return {"instance": record.instance, "healthy": rests or here.sound()}

    def drift(self, state: Plain) -> set[str]:
        return {name for name in self.outputs if not state.get(name)}

    def foresee(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return {"instance": state.get("instance") or UNKNOWN, "healthy": True}

    def update(self, state: Plain, inputs: Plain) -> dict[str, Any]:
        return self._make(inputs)

    def delete(self, state: Plain) -> None:
        here = self._workspace(state)
        certificates = Certificates(here.site, self._certify)
        if not here.empty():
            self._may_be_taken(here, state)
            if here.writers():  # a killed command left it running: until now it could write what no receipt names
                here.end()
                self._may_be_taken(here, state)
        ledger = certificates.set_aside(here.cluster, state.get("instance", ""), state.get("store"))
        if not here.empty():
            certificates.refuse_unsafe(ledger)
        here.seal()
        here.remove()
        certificates.of_cluster(ledger)

    def _make(self, inputs: Plain) -> dict[str, Any]:
        here = self._workspace(inputs)
        record = here.adopt()
        with here.held():
            runs = not here.sealed() and here.suspended() is None
            if runs:
                here.admit(inputs["lease"], growing=True)  # what it no longer has, ends later
            here.describe(inputs["evacuation"], inputs["processes"], inputs["lease"])
            certificates = Certificates(here.site, self._certify)
            certificates.expect(here.cluster, record.instance, inputs.get("ledger") or {}, inputs["processes"])
            if runs:
                if not here.sound():
                    self._evacuation(here, inputs).ask("thaw")
                here.start()
        return {"instance": record.instance, "healthy": True}

    def _may_be_taken(self, here: Workspace, state: Plain) -> None:
        """Raises Refusal unless what is in the workspace is saved, or was given up on purpose."""
        evacuation = self._evacuation(here, state)
        answer = evacuation.ask("receipt")
        if not answer.yes:
            raise Refusal(
                f"Cluster {here.cluster} holds work without a valid receipt or discard, so it is not taken away:\n"
                f"{answer.because()}\nLet its gate save it: pulumi up, then this command again. "
                f"To lose it on purpose: {evacuation.discard_command()}"
            )


class EvacuationGateKind(_OfWorkspace):
    """The proof, before a cluster goes, that nothing on it is lost. Never updated: every change is another gate."""

    replaced_by: ClassVar[frozenset[str]] = frozenset({"site", "cluster", "instance", "store"})

    def name(self, inputs: Plain) -> str:
        return f"gate/{inputs['cluster']}"

    def create(self, inputs: Plain) -> dict[str, Any]:
        """Open the cluster: a new generation, then its processes. One that cannot run stays sealed."""
        here = self._workspace(inputs)
        record = here.record()
        if record is None or record.instance != inputs["instance"]:
            return {}  # `--target` brought another instance meanwhile: this gate guards the name, and opens nothing
        refuse_over(here.site.stack, here.folder, self._leasing)
        with here.held():
            here.admit()  # before the generation grows: what is refused here leaves an earlier receipt as it was
            here.unseal()
            try:
                self._evacuation(here, inputs).ask("thaw")
                here.start()
            except Refusal:
                here.seal()
                raise
        return {}

    def read(self, state: Plain) -> dict[str, Any] | None:
        """Gone once it has done its work: then the next `up` makes another one, which opens the cluster again."""
        here = self._workspace(state)
        record = here.record()
        mine = record is not None and record.instance == state["instance"]
        return None if mine and here.sealed() else {}

    def delete(self, state: Plain) -> None:
        """Save, verify, seal; or refuse with what would be lost, and leave everything as it was."""
        here = self._workspace(state)
        record = here.record()
        if record is None and here.empty():
            return
        if record is None or record.instance != state["instance"]:
            self._save_only(here, state)
            return
        self._proven(here, state, "evacuate")
        here.seal()

    def _save_only(self, here: Workspace, state: Plain) -> None:
        """What lives under the name is not what this gate was for: it is saved, and goes on running."""
        if not here.empty():
            self._proven(here, state, "save", "verify")

    def _proven(self, here: Workspace, state: Plain, *verbs: str) -> None:
        """Raises Refusal with what would be lost, unless every verb says yes or a person gave it up."""
        evacuation = self._evacuation(here, state)
        if evacuation.ask("receipt").discard:
            return
        for verb in verbs:
            answer = evacuation.ask(verb)
            if not answer.yes:
                count = f" ({answer.count} things would be lost)" if answer.count else ""
                raise Refusal(
                    f"Cluster {here.cluster} is not taken away{count}, it goes on as before:\n{answer.because()}\n"
                    f"Mend that and run the command again. To lose it on purpose: {evacuation.discard_command()}"
                )
