"""A spec handed to a process is the same spec there."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from stackyard.spec import plain
from stackyard.spec.models import EnvironmentSpec, ProjectSpec, ServingSpec, TrainingSpec, WindowSpec


def test_a_spec_survives_json(checkout):
    spec = checkout.load()
    for part in (spec.project, spec.environment, spec.project.data.window):
        data = json.loads(json.dumps(plain.dump(part)))
        assert plain.load(type(part), data) == part


def test_units_travel_as_numbers(checkout):
    project = plain.dump(checkout.load().project)
    assert project["training"]["deadline"] == 1800.0
    assert project["serving"]["body_limit"] == 131_072
    assert project["data"]["window"] == {"start": "2024-01-01", "end": "2024-04-01"}
    assert project["data"]["columns"]["pressure"]["minimum"] == 0
    assert isinstance(project["data"]["columns"]["pressure"]["minimum"], int)


def test_defaults_survive_too():
    assert plain.load(TrainingSpec, plain.dump(TrainingSpec())) == TrainingSpec()
    assert plain.load(ServingSpec, {}) == ServingSpec()


STRANGE = {
    "written-unit": (ServingSpec, {"deadline": "1s"}),
    "unknown-field": (ServingSpec, {"deadlines": 1.0}),
    "text-for-number": (TrainingSpec, {"rounds": "100"}),
    "incomplete": (ProjectSpec, {"name": "pumps"}),
    "other-target": (EnvironmentSpec, {"project": "x", "target": "moon"}),
    "no-day": (WindowSpec, {"start": 1, "end": "2024-01-01"}),
}


@pytest.mark.parametrize("word", STRANGE)
def test_anything_but_a_dumped_spec_is_refused(word):
    model, data = STRANGE[word]
    with pytest.raises(ValidationError):
        plain.load(model, data)


def test_an_author_may_not_write_plain_numbers():
    with pytest.raises(ValidationError, match="a duration needs a unit"):
        ServingSpec.model_validate({"deadline": 1.0})
