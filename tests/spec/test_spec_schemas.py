"""Editors see what the models say: schemas are fresh, every field is documented, and the sample fits."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import jsonschema
import pytest

from stackyard.spec import models, schemas
from stackyard.spec.models import Spec
from stackyard.spec.reader import read

SPECS = [each for _, each in inspect.getmembers(models, inspect.isclass) if issubclass(each, Spec) and each is not Spec]
FIELDS = [(spec, name) for spec in SPECS for name in spec.model_fields]


@pytest.mark.parametrize("name", ["project.schema.json", "environment.schema.json"])
def test_a_schema_is_what_the_models_say_now(name):
    assert (schemas.FOLDER / name).read_text() == schemas.texts()[name], "run python -m stackyard.spec.schemas"


@pytest.mark.parametrize(("spec", "name"), FIELDS, ids=[f"{spec.__name__}.{name}" for spec, name in FIELDS])
def test_a_field_says_what_happens_when_it_is_absent(spec, name):
    field = spec.model_fields[name]
    said = field.description or ""
    assert len(said) > 20
    assert ("Required" in said) == field.is_required()
    assert ("Absent:" in said) != field.is_required()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_a_spec_is_strict_closed_frozen_and_documented(spec):
    assert spec.model_config["strict"]
    assert spec.model_config["extra"] == "forbid"
    assert spec.model_config["frozen"]
    assert spec.__doc__


def test_every_description_reaches_the_editor():
    for text in schemas.texts().values():
        for definition in json.loads(text)["$defs"].values():
            assert all("description" in field for field in definition["properties"].values())


def _sample(checkout, file: Path):
    return json.loads(json.dumps(read(file).tree))


@pytest.mark.parametrize("which", ["project", "stack"])
def test_the_sample_fits_its_schema(which, checkout):
    name = {"project": "project.schema.json", "stack": "environment.schema.json"}[which]
    schema = json.loads(schemas.texts()[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(_sample(checkout, getattr(checkout, which)), schema)


MISFITS = {
    "unknown-field": {"training": {"round": 1}},
    "duration-without-unit": {"training": {"deadline": "30"}},
    "size-without-unit": {"serving": {"body_limit": 65536}},
    "choice": {"task": {"type": "binery", "label": "failed"}},
    "day": {"data": {"window": {"start": "today", "end": "2024-01-01"}}},
}


@pytest.mark.parametrize("word", MISFITS)
def test_an_editor_marks_a_mistake_in_the_project_and_in_the_overrides(word, checkout):
    project, stack = _sample(checkout, checkout.project), _sample(checkout, checkout.stack)
    for schema, tree in (
        ("project", {**project, **MISFITS[word]}),
        ("environment", {**stack, "overrides": MISFITS[word]}),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree, json.loads(schemas.texts()[f"{schema}.schema.json"]))


OVERRIDES = {
    "one-field": {"training": {"rounds": 1}},
    "removed": {"training": {"rounds": None}, "serving": None},
    "another-source": {"data": {"source": {"python": None, "csv": "readings/"}}},
    "part-of-a-column": {"data": {"columns": {"site": {"nullable": True}}}},
}


@pytest.mark.parametrize("word", OVERRIDES)
def test_an_editor_takes_a_part_of_the_project_as_overrides(word, checkout):
    tree = {**_sample(checkout, checkout.stack), "overrides": OVERRIDES[word]}
    jsonschema.validate(tree, json.loads(schemas.texts()["environment.schema.json"]))


def test_defaults_are_shown_as_an_author_writes_them():
    definitions = json.loads(schemas.texts()["project.schema.json"])["$defs"]
    assert definitions["TrainingSpec"]["properties"]["deadline"]["default"] == "1h"
    assert definitions["ServingSpec"]["properties"]["body_limit"]["default"] == "64KiB"
