"""From a stack's file to one checked value, or to every reason why it is not one.

A stack is two files: `stacks/<name>.yaml` and the project.yaml it names. Both are read before anything is said, so
that a person sees all mistakes of both at once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from stackyard.spec import functions, layers, leaks, lease_rules, loop_rules, rules, wording
from stackyard.spec.findings import Finding
from stackyard.spec.models import EnvironmentSpec, ProjectSpec, Spec
from stackyard.spec.problems import AT_MOST, Keys, Origin, Problem, SpecError, nearest, shown_value
from stackyard.spec.reader import Document, read

PROJECT_FILE = "project.yaml"
_INCOMPLETE = frozenset({"missing", "no-value", "source"})
_STACK_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class StackSpec:
    """One environment of one project, checked. `origins` tells where each place of `project` was written."""

    name: str
    file: Path
    checkout: Path
    project: ProjectSpec
    project_folder: Path
    environment: EnvironmentSpec
    origins: Mapping[Keys, Origin]


def find_stack(name: str | None, cwd: Path) -> Path:
    """The file of the stack called `name`, in the checkout around `cwd`; without a name, `local` or the only one.

    Raises SpecError when there is no checkout, no such stack, or more than one to choose from.
    """
    checkout = _checkout(cwd.resolve())
    if checkout is None:
        raise _refused("no-checkout", cwd, "is not inside a checkout with a Pulumi.yaml", "change into it")
    folder = checkout / "stacks"
    known = sorted(each.stem for each in folder.glob("*.yaml") if _STACK_NAME.fullmatch(each.stem))
    if name is None and ("local" in known or len(known) == 1):
        name = "local" if "local" in known else known[0]
    if name is None:
        listed = f"name one of {', '.join(known)}" if known else "write stacks/local.yaml"
        raise _refused("no-stack", folder, "which stack is meant is not clear", listed)
    if name not in known:
        remedy = f"the stacks are {', '.join(known)}" if known else "write stacks/local.yaml"
        raise _refused("no-stack", folder, "there is no such stack", remedy, shown_value(name), nearest(name, known))
    return folder / f"{name}.yaml"


def load(stack_file: Path) -> StackSpec:
    """Reads and checks a stack's file and its project. Raises SpecError with every problem of both."""
    file = stack_file.absolute()
    document = read(file)
    found, leaked = list(document.problems), leaks.problems(document)
    if not _STACK_NAME.fullmatch(file.stem):
        rule, remedy = "the file's name is the stack's name", "use lower-case letters, digits and dashes, at most 31"
        found.append(Problem("stack-name", Origin(file, 1), rule, remedy, shown_value(file.stem)))
    environment, folder, project, origins = None, None, None, {}
    if isinstance(document.tree, dict):
        environment = _checked(EnvironmentSpec, document.tree, document.origin, found)
        if environment is not None:
            of_environment = itertools.chain(
                loop_rules.of_environment(environment), lease_rules.of_environment(environment)
            )
            found += [_told(each, document) for each in of_environment]
        folder = _project_folder(document, found)
    if folder is not None:
        project_document = read(folder / PROJECT_FILE)
        found += project_document.problems
        leaked += leaks.problems(project_document)
        if isinstance(project_document.tree, dict):
            project, origins = _project(project_document, document, folder, found)
    if found or leaked or project is None or environment is None or folder is None:
        everything = [*leaked, *leaks.silenced(found, leaked)]
        raise SpecError(sorted(everything, key=lambda each: (each.file != file, str(each.file), each.line)))
    checkout = _checkout(file.parent) or (file.parent.parent if file.parent.name == "stacks" else file.parent)
    return StackSpec(file.stem, file, checkout, project, folder, environment, MappingProxyType(origins))


def check_leases(spec: StackSpec, now: dt.datetime, extended: Mapping[str, float] = MappingProxyType({})) -> None:
    """Raises SpecError when a lease is over at `now` (with a time zone): an `up` would make what has to go.

    `extended`: seconds by which a cluster's end was put off.
    """
    if over := list(lease_rules.ended(spec.environment, now, extended)):
        document = read(spec.file)
        raise SpecError(_told(each, document) for each in over)


def _project(
    document: Document, environment: Document, folder: Path, found: list[Problem]
) -> tuple[ProjectSpec | None, dict[Keys, Origin]]:
    """The project with its overrides, or None with everything that is wrong with it added to `found`."""
    tree, origins = layers.merged(document, environment)
    if tree is not document.tree:  # what is overridden must be sound for other environments, but need not be complete
        alone = list(found)
        _checked(ProjectSpec, document.tree, document.origin, alone)
        found.extend(each for each in alone[len(found) :] if each.code not in _INCOMPLETE)
    project = _checked(ProjectSpec, tree, lambda keys: layers.origin(origins, keys), found)
    sections: dict[str, Any] = {"target": environment.tree.get("target")}
    for name, each in ProjectSpec.model_fields.items():
        if project is not None:
            sections[name] = getattr(project, name)
        elif isinstance(each.annotation, type) and issubclass(each.annotation, Spec):
            with contextlib.suppress(ValidationError):  # told already, by the whole
                sections[name] = each.annotation.model_validate(tree.get(name, {}))
    broken = itertools.chain(rules.findings(sections), functions.findings(folder, sections))
    found.extend(_problem(finding, origins) for finding in itertools.islice(broken, AT_MOST + 1))
    return project, origins


def _problem(finding: Finding, origins: Mapping[Keys, Origin]) -> Problem:
    keys = finding.keys if finding.keys in origins or finding.instead is None else finding.instead
    value = None if finding.value is None else shown_value(finding.value)
    origin = layers.origin(origins, keys)
    return Problem(finding.code, origin, finding.rule, finding.remedy, value, finding.suggestion)


def _told(finding: Finding, document: Document) -> Problem:
    """A finding about the stack's own file."""
    value = None if finding.value is None else shown_value(finding.value)
    origin = document.origin(finding.keys)
    return Problem(finding.code, origin, finding.rule, finding.remedy, value, finding.suggestion)


def _checked(model: type[Spec], tree: Any, locate: Callable[[Keys], Origin], found: list[Problem]) -> Any:
    """The validated model, or None with its problems added; places already refused are not mentioned again."""
    refused = {(problem.file, problem.origin.keys) for problem in found if problem.origin.keys}
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        for problem in wording.problems(error, model, locate):
            keys = problem.origin.keys
            if not any((problem.file, keys[:end]) in refused for end in range(1, len(keys) + 1)):
                found.append(problem)
        return None


def _project_folder(document: Document, found: list[Problem]) -> Path | None:
    named = document.tree.get("project")
    if not isinstance(named, str):
        return None
    # os.path answers no where pathlib raises: names too long, loops of links
    folder = Path(os.path.realpath(document.file.parent / named)) if "\0" not in named else None
    if folder is None or not os.path.isdir(folder):
        rule, remedy = "there is no such folder", "write the project's folder relative to this file"
        found.append(Problem("project-folder", document.origin(("project",)), rule, remedy, shown_value(named)))
        return None
    return folder


def _checkout(start: Path) -> Path | None:
    return next((each for each in (start, *start.parents) if (each / "Pulumi.yaml").is_file()), None)


def _refused(
    code: str, place: Path, rule: str, remedy: str, value: str | None = None, near: str | None = None
) -> SpecError:
    return SpecError([Problem(code, Origin(place, 1), rule, remedy, value, near)])
