"""One life cycle for every kind: Pulumi's questions translated once, so that a kind only knows the world.

Ids are `<stack id>/<name>` and never change, so nothing that refers to a resource changes with it. State is always
inputs and outputs together; secrets stay secret because what came wrapped goes back wrapped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pulumi.provider.experimental import provider as protocol
from pulumi.provider.experimental.property_value import PropertyValue

from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.kinds import Kind, Plain, changed
from stackyard_infra.provider.leases import EvacuationGateKind, LeasedClusterKind
from stackyard_infra.provider.ledgers import LedgerKind
from stackyard_infra.provider.places import ClockKind, FileKind, FolderKind, KeysKind, SiteKind
from stackyard_infra.provider.ports import PortsKind
from stackyard_infra.provider.processes import ProcessKind, SupervisorKind
from stackyard_infra.provider.values import UNKNOWN, plain, unknown_in, wrapped

KINDS: dict[str, Kind] = {
    "stackyard:index:Site": SiteKind(),
    "stackyard:index:Ledger": LedgerKind(),
    "stackyard:index:Folder": FolderKind(),
    "stackyard:index:Keys": KeysKind(),
    "stackyard:index:Clock": ClockKind(),
    "stackyard:index:Ports": PortsKind(),
    "stackyard:index:Supervisor": SupervisorKind(),
    "stackyard:index:Process": ProcessKind(),
    "stackyard:index:File": FileKind(),
    "stackyard:index:LeasedCluster": LeasedClusterKind(),
    "stackyard:index:EvacuationGate": EvacuationGateKind(),
}

Properties = dict[str, PropertyValue]


class StackyardProvider(protocol.Provider):
    """The provider. Work that blocks is done in threads: the engine asks about many resources at once."""

    def __init__(self, kinds: dict[str, Kind] | None = None) -> None:
        self._kinds = KINDS if kinds is None else kinds
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="resource")

    async def get_schema(self, request: protocol.GetSchemaRequest) -> protocol.GetSchemaResponse:
        return protocol.GetSchemaResponse(schema='{"name": "stackyard", "version": "0.1.0"}')

    async def configure(self, request: protocol.ConfigureRequest) -> protocol.ConfigureResponse:
        return protocol.ConfigureResponse(accept_secrets=True, supports_preview=True, accept_outputs=False)

    async def check(self, request: protocol.CheckRequest) -> protocol.CheckResponse:
        self._kind(request.type)
        return protocol.CheckResponse(inputs=request.new_inputs)

    async def diff(self, request: protocol.DiffRequest) -> protocol.DiffResponse:
        kind = self._kind(request.type)
        state, inputs = _plain(request.old_state), _plain(request.new_inputs)
        inputs = {key: value for key, value in inputs.items() if key not in request.ignore_changes}
        different = changed(state, inputs)
        replaces = sorted(different & kind.replaced_by)
        details = {
            key: protocol.PropertyDiff(
                protocol.PropertyDiffKind.UPDATE_REPLACE if key in replaces else protocol.PropertyDiffKind.UPDATE,
                input_diff=key in inputs,
            )
            for key in sorted(different | kind.drift(state))
        }
        return protocol.DiffResponse(
            changes=bool(details), replaces=replaces, diffs=list(details), detailed_diff=details,
            delete_before_replace=bool(replaces),
        )  # fmt: skip

    async def create(self, request: protocol.CreateRequest) -> protocol.CreateResponse:
        kind, inputs = self._kind(request.type), _plain(request.properties)
        if request.preview:
            return protocol.CreateResponse("", request.properties | _wrapped(dict.fromkeys(kind.outputs, UNKNOWN)))
        outputs = await self._do(kind.create, inputs)
        return protocol.CreateResponse(self._id(kind, inputs), request.properties | _wrapped(outputs))

    async def read(self, request: protocol.ReadRequest) -> protocol.ReadResponse:
        kind, state = self._kind(request.type), _plain(request.properties)
        if "site" not in state:
            raise Refusal("Resources of stackyard cannot be imported: `pulumi up` finds by itself what is there.")
        seen = await self._do(kind.read, state)
        if seen is None:
            return protocol.ReadResponse()
        return protocol.ReadResponse(request.resource_id, request.properties | _wrapped(seen), request.inputs)

    async def update(self, request: protocol.UpdateRequest) -> protocol.UpdateResponse:
        kind = self._kind(request.type)
        state, inputs = _plain(request.olds), _plain(request.news)
        if request.preview:
            return protocol.UpdateResponse(request.news | _wrapped(kind.foresee(state, inputs)))
        return protocol.UpdateResponse(request.news | _wrapped(await self._do(kind.update, state, inputs)))

    async def delete(self, request: protocol.DeleteRequest) -> None:
        await self._do(self._kind(request.type).delete, _plain(request.properties))

    def _kind(self, token: str) -> Kind:
        try:
            return self._kinds[token.rpartition("$")[2]]  # a component's children carry its type before theirs
        except KeyError:
            raise Refusal(f"The provider stackyard knows no resource {token}.") from None

    def _id(self, kind: Kind, inputs: Plain) -> str:
        return f"{inputs['site']['stack_id']}/{kind.name(inputs)}"

    async def _do(self, work: Callable[..., Any], *arguments: Plain) -> Any:
        if any(unknown_in(argument) for argument in arguments):
            raise Refusal("An input is still unknown; this is a fault of the program, please report it.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _plain(properties: Properties) -> dict[str, Any]:
    return {key: plain(value) for key, value in properties.items()}


def _wrapped(values: dict[str, Any]) -> Properties:
    return {key: wrapped(value) for key, value in values.items()}
