"""`stackyard certificate`: what was found when a stack or a leased cluster was taken away, also long after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stackyard.certificates import certificate, checking, telling
from stackyard.certificates.certificate import CertificateError, Given
from stackyard.certificates.losses import opened
from stackyard.cli.failures import Failure
from stackyard.cli.stack import checkout
from stackyard.evacuation.errors import EvacuationError
from stackyard.store import layout

LATEST = "latest"


def show(stack: str, which: str, *, as_json: bool) -> None:
    """Print a certificate. Raises Failure when there is none, or none that can be trusted."""
    given = _find(stack, which)
    if as_json:
        print(json.dumps({"place": given.place, "digest": given.digest, **given.body.model_dump(mode="json")}))
        return
    body = given.body
    print(telling.sentence(body))
    for line in telling.lines(body):
        print(f"  {line}")
    print(f"  from {body.opened} to {body.closed}, certified {body.issued}")
    for kind, counts in body.looked.items():
        print(f"  {kind}: {counts['expected']} expected by name, {counts['found']} found")
    if body.receipt:
        told = body.receipt
        print(
            f"  receipt {told['place']}: {told['files']} files, {told['size']} bytes; {told['packs']} packs read again"
        )
    for each in body.clusters:
        print(f"  cluster {each['cluster']}: {each['verdict']}: {each['name']}")
    for each in body.kept:
        print(f"  kept: {each['what']}: {each['path']}{'' if each['there'] else ' (not there)'}")
    print(f"  {body.name}, sha256 {given.digest}, {_where(given)}")


def verify(stack: str, which: str, *, as_json: bool) -> None:
    """Check the signature and ask for every claim again. Raises Failure for what does not hold."""
    given = _find(stack, which)
    checks = list(checking.check(given, _state(stack)))
    broken = [each for each in checks if each.holds is False]
    if as_json:
        told: list[dict[str, Any]] = [vars(each) for each in checks]
        print(json.dumps({"certificate": given.body.name, "ok": not broken, "checks": told}))
    else:
        for each in checks:
            word = {True: "yes", False: "NO", None: "not asked"}[each.holds]
            print(f"{each.claim}: {word}{f' ({each.because})' if each.because else ''}")
    if broken:
        raise Failure(f"{given.body.name} does not hold: {broken[0].claim}: no")


def _where(given: Given) -> str:
    """Where it lies, as far as can be seen now."""
    body, location = given.body, certificate.store_of(given.path.parent)
    place = layout.certificate(body.stack_id, body.stem, body.number)
    try:
        if location and opened(location).exists(place):
            return f"{place} in the store, and {given.path}"
    except EvacuationError as error:
        return f"{given.path} ({error})"
    return str(given.path)


def _find(stack: str, which: str) -> Given:
    """A certificate by its name, a file, a place in the store, or the latest."""
    folder = _state(stack) / "certificates"
    keys = certificate.trusted(folder)
    if not keys:
        raise Failure(f"stack {stack} has no certificate here: one is given when it, or a cluster of it, is destroyed")
    try:
        if which == LATEST:
            found = list(certificate.issued(folder))
            if not found:
                raise Failure(f"{folder} holds no certificate that can be trusted")
            return found[-1]
        for path in (folder / f"{which.removesuffix('.json')}.json", Path(which)):
            if path.is_file():
                return certificate.read(path.read_bytes(), path, keys)
        location = certificate.store_of(folder)
        if location and which.startswith("certificates/"):
            return certificate.read(opened(location).read(which), folder / Path(which).name, keys, which)
    except (CertificateError, EvacuationError, OSError) as error:
        raise Failure(str(error)) from None
    except KeyError:
        pass
    names = ", ".join(each.body.name for each in certificate.issued(folder))
    raise Failure(f"there is no certificate {which}; there are: {names or 'none'}")


def _state(stack: str) -> Path:
    return checkout() / ".stackyard" / stack
