"""The reconciler: it trains, judges and publishes."""

from __future__ import annotations

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components import code
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import processes


class Controller(pulumi.ComponentResource):
    """One process. Secrets of the data source and of alerts are its alone, as private files.

    Raises pulumi.RunError for unset ones.
    """

    def __init__(
        self, name: str, spec: StackSpec, *, store: ArtifactStore, supervision: Supervision,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:local:Controller", name, None, opts)
        places = supervision.places
        self.process = supervision.run(
            "controller",
            supervision.lowered(
                lambda ports, addresses, keys: processes.controller(spec, places, ports, addresses, keys)
            ),
            parent=self,
            needs=[store.folder, store.database, *store.clock],
            version=code.digest("control", "training", "registry", "monitoring", "leasing", "evacuation"),
            secrets=_secrets(spec),
            stop_timeout=30,
        )
        self.register_outputs({})


def _secrets(spec: StackSpec) -> dict[str, pulumi.Output[str]]:
    config, found = pulumi.Config(), {}
    missing = []
    for name, field in processes.secrets(spec).items():
        value = config.get_secret(name)
        if value is None:
            missing.append(f"{spec.file}: {field}: {name}: is not set; pulumi config set --secret {name}")
        else:
            found[name] = value
    if missing:
        raise pulumi.RunError("\n".join(missing))
    return found
