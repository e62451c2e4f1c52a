"""One Prometheus page for the whole stack."""

from __future__ import annotations

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components import code
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import processes


class Metrics(pulumi.ComponentResource):
    """The page, gathered from replicas, proxy and store whenever it is asked for."""

    def __init__(
        self, name: str, spec: StackSpec, *, store: ArtifactStore, supervision: Supervision,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:local:Metrics", name, None, opts)
        places = supervision.places
        self.process = supervision.run(
            "metrics",
            supervision.lowered(lambda ports, _addresses, keys: processes.metrics(spec, places, ports, keys)),
            parent=self,
            needs=[store.folder],
            version=code.digest("monitoring"),
        )
        self.register_outputs({})
