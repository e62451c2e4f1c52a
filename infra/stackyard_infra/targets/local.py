"""The target `local`: everything as supervised processes on this machine."""

from __future__ import annotations

import json

import pulumi

from stackyard.spec import StackSpec
from stackyard_infra.components.controller import Controller
from stackyard_infra.components.inference import Inference
from stackyard_infra.components.leases import Lease
from stackyard_infra.components.metrics import Metrics
from stackyard_infra.components.registry import ModelRegistry
from stackyard_infra.components.store import ArtifactStore
from stackyard_infra.components.supervision import Supervision
from stackyard_infra.manifests import leases, processes
from stackyard_infra.resources import File


def build(spec: StackSpec) -> None:
    """Register the stack of `spec`."""
    supervision = Supervision("supervision", spec)
    store = ArtifactStore("store", spec, supervision=supervision)
    ModelRegistry("registry", spec, supervision=supervision)
    Controller("control", spec, store=store, supervision=supervision)
    Inference("inference", spec, store=store, supervision=supervision)
    Metrics("monitoring", spec, store=store, supervision=supervision)
    for name in spec.environment.clusters:
        Lease(name, spec, store=store, supervision=supervision)

    places, lent = supervision.places, spec.environment.clusters
    names = list(supervision.processes)
    card = supervision.lowered(
        lambda ports, _, keys: processes.card(spec, places, ports, keys, names) | leases.card(lent, places, ports)
    )
    text = card.apply(lambda plain: json.dumps(plain, indent=1))
    on_site = pulumi.ResourceOptions(depends_on=[supervision.site])
    File("card", site=places.site, path="stack.json", content=text, opts=on_site)

    addresses = supervision.lowered(lambda ports, *_: processes.addresses_for_people(ports))
    for name in ("predict", "metrics", "mlflow"):
        pulumi.export(name, addresses[name])
    pulumi.export("model", spec.project.name)
    pulumi.export("store", str(places.store))
