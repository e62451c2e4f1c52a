"""Which stack is meant, and where its checkout and its project are."""

from __future__ import annotations

import pytest

from stackyard.spec import SpecError, find_stack, load
from stackyard.spec.functions import findings
from stackyard.spec.metrics import METRICS, metric, more_is_better
from stackyard.spec.models import FeaturesSpec, TaskSpec


def test_a_stack_is_found_from_anywhere_in_its_checkout(checkout):
    assert find_stack("local", checkout.folder / "pumps") == checkout.stack
    assert find_stack(None, checkout.folder) == checkout.stack


def test_the_only_stack_needs_no_name(checkout):
    only = checkout.stack.rename(checkout.stack.with_name("plant.yaml"))
    assert find_stack(None, checkout.folder) == only


def test_local_is_meant_where_there_are_several(checkout):
    checkout.stack.with_name("plant.yaml").write_text("")
    assert find_stack(None, checkout.folder) == checkout.stack


WRONG = {
    "misspelt": ("locl", "did you mean local?"),
    "a-path": ("../local", "there is no such stack"),
    "a-pulumi-file": ("Pulumi.local", "there is no such stack"),
    "nothing": ("", "there is no such stack"),
}


@pytest.mark.parametrize("word", WRONG)
def test_a_stack_that_is_not_there_is_refused(word, checkout):
    checkout.stack.with_name("Pulumi.local.yaml").write_text("")
    name, told = WRONG[word]
    with pytest.raises(SpecError) as refused:
        find_stack(name, checkout.folder)
    assert told in str(refused.value)


def test_a_choice_of_stacks_is_left_to_a_person(checkout):
    for name in ("plant", "bench"):
        checkout.stack.with_name(f"{name}.yaml").write_text("")
    checkout.stack.unlink()
    with pytest.raises(SpecError, match="name one of bench, plant"):
        find_stack(None, checkout.folder)


def test_no_checkout_no_stack(tmp_path):
    with pytest.raises(SpecError, match=r"Pulumi\.yaml"):
        find_stack("local", tmp_path)


def test_a_spec_knows_its_places(checkout, monkeypatch):
    monkeypatch.chdir(checkout.folder / "pumps")
    spec = load(checkout.stack)
    assert (spec.name, spec.file, spec.checkout) == ("local", checkout.stack, checkout.folder)
    assert spec.project_folder == (checkout.folder / "pumps").resolve()


def test_a_stack_is_named_as_its_file(checkout):
    with pytest.raises(SpecError, match="the file's name is the stack's name"):
        load(checkout.stack.rename(checkout.stack.with_name("My_Stack.yaml")))


MODULES = {
    "assigned": ("build = print", None),
    "imported": ("from shapes import build", None),
    "imported-as": ("import shapes as build", None),
    "imported-all": ("from shapes import *", None),
    "in-a-branch": ("try:\n    import x\nexcept ImportError:\n    def build(frame): ...", None),
    "asynchronous": ("async def build(frame): ...", None),
    "annotated": ("build: object = print", None),
    "absent": ("def other(): ...", "function-missing"),
    "nested": ("def other():\n    def build(frame): ...", "function-missing"),
    "broken": ("def build(:", "module-syntax"),
    "nul": ("def build(frame): ...\0", "module-syntax"),
}


@pytest.mark.parametrize("word", MODULES)
def test_a_function_is_looked_for_without_running_its_module(word, tmp_path):
    source, code = MODULES[word]
    (tmp_path / "shapes.py").write_text(f"{source}\n")
    found = findings(tmp_path, {"features": FeaturesSpec(function="shapes:build")})
    assert [each.code for each in found] == ([code] if code else [])


@pytest.mark.parametrize("path", ["a" * 5000 + ":f", ".".join("a" * 3000) + ":f"])
def test_a_module_with_an_impossible_name_is_missing(path, tmp_path):
    assert [each.code for each in findings(tmp_path, {"features": FeaturesSpec(function=path)})] == ["module-missing"]


@pytest.mark.parametrize(
    "named", ["x" * 5000, "loop", "x/../" * 1500 + "y", '"\\0"'], ids=["long", "loop", "steps", "nul"]
)
def test_a_project_folder_with_an_impossible_name_is_missing(named, checkout):
    (checkout.folder / "stacks" / "loop").symlink_to("loop")
    assert checkout.edit(stack=[("../pumps", named)]).codes() == ["project-folder"]


def test_a_module_may_lie_in_a_folder_but_not_outside(tmp_path):
    (tmp_path / "project" / "deep").mkdir(parents=True)
    (tmp_path / "project" / "deep" / "shapes.py").write_text("def build(frame): ...\n")
    (tmp_path / "outside.py").write_text("def build(frame): ...\n")
    (tmp_path / "project" / "linked.py").symlink_to(tmp_path / "outside.py")
    codes = {
        path: [each.code for each in findings(tmp_path / "project", {"features": FeaturesSpec(function=path)})]
        for path in ("deep.shapes:build", "linked:build", "outside:build")
    }
    assert codes == {"deep.shapes:build": [], "linked:build": ["module-missing"], "outside:build": ["module-missing"]}


@pytest.mark.parametrize("kind", METRICS)
def test_each_task_has_a_metric_of_its_own(kind):
    classes = ("a", "b") if kind == "multiclass" else None
    assert metric(TaskSpec(type=kind, label="y", classes=classes)) == METRICS[kind][0]
    assert metric(TaskSpec(type=kind, label="y", classes=classes, metric=METRICS[kind][-1])) == METRICS[kind][-1]  # type: ignore[arg-type]


def test_losses_are_better_when_less():
    assert not more_is_better("log_loss")
    assert more_is_better("auc")
