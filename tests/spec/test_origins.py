"""Two layers make one spec, and each value remembers the file and line it was written in."""

from __future__ import annotations

import pytest

ORIGINS = {
    "project": (("task", "label"), "project.yaml", "  label: failed"),
    "in-braces": (("data", "columns", "pressure", "maximum"), "project.yaml", "    pressure: {type: float"),
    "item-of-a-list": (("data", "columns", "site", "categories", 2), "project.yaml", "    site: {type: string"),
    "section": (("serving", "replicas"), "project.yaml", "  replicas:"),
    "overridden": (("training", "rounds"), "local.yaml", "    rounds: 20"),
    "overridden-in-braces": (("serving", "replicas", "max"), "local.yaml", "    replicas: {max: 3}"),
    "beside-an-override": (("serving", "replicas", "min"), "project.yaml", "    min: 1"),
}


@pytest.mark.parametrize("word", ORIGINS)
def test_a_value_knows_the_line_it_was_written_in(word, checkout):
    keys, file, line = ORIGINS[word]
    origin = checkout.load().origins[keys]
    assert origin.file.name == file
    assert origin.file.read_text().splitlines()[origin.line - 1].startswith(line)


def test_every_written_value_has_an_origin(checkout):
    spec = checkout.load()
    written = spec.project.model_dump(exclude_unset=True)
    assert {keys for keys in spec.origins if keys} == set(_places(written))


def test_an_override_replaces_one_value_and_leaves_its_neighbours(checkout):
    project = checkout.load().project
    assert (project.training.rounds, project.training.deadline) == (20, 1800.0)
    assert (project.serving.replicas.min, project.serving.replicas.max) == (1, 3)


def test_an_override_replaces_a_list_as_a_whole(checkout):
    checkout.edit(stack=[("overrides:\n", "overrides:\n  data: {columns: {site: {categories: [east]}}}\n")])
    spec = checkout.load()
    place = ("data", "columns", "site", "categories")
    assert spec.project.data.columns["site"].categories == ("east",)
    assert spec.origins[(*place, 0)].file == checkout.stack
    assert (*place, 1) not in spec.origins


def test_an_empty_override_returns_to_the_default(checkout):
    checkout.edit(stack=[("    rounds: 20", "    rounds: null")])
    assert checkout.load().project.training.rounds == 200


def test_an_environment_may_read_from_another_kind_of_source(checkout):
    source = "overrides:\n  data: {source: {python: null, secrets: null, parquet: readings/}}\n"
    checkout.edit(stack=[("overrides:\n", source)])
    assert checkout.load().project.data.source.parquet == "readings/"  # type: ignore[union-attr]


def test_an_environment_may_complete_a_project(checkout):
    checkout.edit([("  label: failed\n", "")], [("overrides:\n", "overrides:\n  task: {label: failed}\n")])
    assert checkout.load().project.task.label == "failed"


def test_a_mistake_in_a_project_is_told_even_where_an_override_hides_it(checkout):
    problem = checkout.edit([("  rounds: 100", "  rounds: many")]).refusal().problems[0]
    assert (problem.file, problem.path) == (checkout.project, "training.rounds")


def test_a_rule_between_two_files_blames_the_file_that_can_mend_it(checkout):
    problem = checkout.edit([("    min: 1", "    min: 4")]).refusal().problems[0]
    assert (problem.file, problem.path) == (checkout.stack, "overrides.serving.replicas.max")


def test_a_rule_about_a_default_blames_what_is_written(checkout):
    edits = [("    min: 1\n    max: 4\n", "    min: 5\n")]
    problem = checkout.edit(edits, [("  serving:\n    replicas: {max: 3}\n", "")]).refusal().problems[0]
    assert (problem.file, problem.path) == (checkout.project, "serving.replicas.min")


def test_sound_sections_are_judged_while_another_is_broken(checkout):
    codes = checkout.edit([("  rounds: 100", "  rounds: many"), ("label: failed", "label: absent")]).codes()
    assert set(codes) == {"type", "label-column"}


def test_a_refused_word_is_told_once(checkout):
    assert checkout.edit([("  label: failed", "  label: yes")]).codes() == ["yaml-switch"]


def _places(value, keys=()):
    if keys:
        yield keys
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    for name, each in inside:
        yield from _places(each, (*keys, name))
