"""Every promised error, as a golden file, and the rule it tells by its code.

`STACKYARD_WRITE_GOLDEN=1 pytest tests/spec/test_broken_specs.py` writes the files again; refused where CI is set.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
COLUMN = "    starts: {type: integer, known: before, minimum: 0}\n"
PYTHON = "    python: source:read\n    secrets: [HISTORIAN_PASSWORD]\n"
SITE = 'categories: [north, "no", south]'
TYPE = "  type: binary\n"


def _with(section: str) -> list[tuple[str, str]]:
    """The edit that adds a section of the closed loop."""
    return [("serving:\n", f"{section}\nserving:\n")]


def _lent(clusters: str, *, keep: str = "true") -> list[tuple[str, str]]:
    """The edits that add leased clusters to the stack's file, whose store would not outlive them."""
    return [("target: local\n", f"target: local\n{clusters}\n"), ("  keep: false", f"  keep: {keep}")]


# word id: (codes, edits of project.yaml, edits of the stack's file)
BROKEN = {
    "unknown-field": (["unknown-field"], [("  rounds: 100", "  round: 100")], []),
    "unknown-section": (["unknown-field"], [("serving:\n", "serve:\n")], []),
    "missing-fields": (
        ["missing", "missing"],
        [("  label: failed\n", ""), ("features:\n  function: features:build\n", "")],
        [],
    ),
    "quoted-number": (["type"], [("  rounds: 100", '  rounds: "100"')], []),
    "fraction-for-integer": (["type"], [("    min: 1", "    min: 1.5")], []),
    "truth-for-number": (["value"], [("maximum: 25.5", "maximum: true")], []),
    "text-for-truth": (["type"], [("nullable: true", 'nullable: "true"')], []),
    "list-for-fields": (["type"], [("  split:\n    validation: 0.2\n    test: 0.1\n", "  split: [0.2, 0.1]\n")], []),
    "fields-for-list": (["type"], [(SITE, "categories: {north: 1}")], []),
    "no-value": (["no-value"], [("  label: failed", "  label:")], []),
    "yes-for-true": (["yaml-switch"], [("nullable: true", "nullable: yes")], []),
    "odd-numbers": (
        ["yaml-odd-number"] * 4,
        [
            ("  rounds: 100", "  rounds: 1e3"),
            ("max_depth: 4", "max_depth: 010"),
            ("min: 1", "min: 0x10"),
            ("30m", "1:30"),
        ],
        [],
    ),
    "not-finite": (["yaml-not-finite"], [("maximum: 25.5", "maximum: .inf")], []),
    "huge-integer": (["yaml-huge-number"], [("maximum: 25.5", "maximum: 99999999999999999999")], []),
    "duplicate-field": (["yaml-duplicate"], [("  label: failed\n", "  label: failed\n  label: starts\n")], []),
    "merge-key": (["yaml-merge-key"], [("  deadline: 30m", "  <<: {deadline: 30m}")], []),
    "anchor": (["yaml-anchor"], [("columns:\n", "columns: &all\n")], []),
    "tag": (["yaml-tag"], [("  label: failed", "  label: !!python/name:os.system failed")], []),
    "indentation": (["yaml-syntax"], [("  label: failed", "   label: failed")], []),
    "open-quote": (["yaml-syntax"], [("  label: failed", '  label: "failed')], []),
    "second-document": (["yaml-documents"], [("features:\n", "---\nfeatures:\n")], []),
    "choice": (["choice"], [(TYPE, "  type: binery\n")], []),
    "out-of-range": (["range", "range"], [("validation: 0.2", "validation: 0.5"), ("min: 1", "min: 0")], []),
    "duration-without-unit": (["value"], [("30m", "30")], []),
    "size-without-unit": (["value"], [("128KiB", "128k")], []),
    "no-such-day": (["value"], [("2024-04-01", "2024-02-30")], []),
    "project-name": (["pattern"], [("name: pumps", "name: Pumps 2")], []),
    "function-path": (["pattern"], [("features:build", "features.py")], []),
    "two-sources": (["source"], [(PYTHON, PYTHON + "    csv: readings/\n")], []),
    "no-source": (["source"], [(PYTHON, "    parquett: readings/\n")], []),
    "source-of-another-kind": (["unknown-field"], [(PYTHON, "    csv: readings/\n    separator: ;\n")], []),
    "unknown-object-store": (["object-store"], [(PYTHON, "    parquet: ftp://archive/readings\n")], []),
    "label-missing": (["label-column"], [("  label: failed", "  label: fialed")], []),
    "label-known-before": (["label-known"], [("known: after", "known: before")], []),
    "label-type": (["label-type"], [("failed: {type: boolean", "failed: {type: string")], []),
    "time-missing": (["time-column"], [("  time: measured_at", "  time: measured")], []),
    "time-of-wrong-kind": (
        ["time-type", "time-known", "time-nullable"],
        [("measured_at: {type: datetime, known: before}", "measured_at: {type: string, known: after, nullable: true}")],
        [],
    ),
    "window-backwards": (["window-order"], [("end: 2024-04-01", "end: 2024-01-01")], []),
    "metric-of-another-task": (["metric-of-task"], [("metric: auc", "metric: rmse")], []),
    "classes-missing": (
        ["classes-of-task", "label-type"],
        [(TYPE, "  type: multiclass\n"), ("  metric: auc\n", "")],
        [],
    ),
    "classes-for-binary": (["classes-of-task"], [(TYPE, TYPE + '  classes: ["no", "yes"]\n')], []),
    "bounds": (
        ["bound-order", "bound-type", "bound-type"],
        [
            ("maximum: 25.5", "maximum: -1"),
            ("{type: boolean, known: after}", "{type: boolean, known: after, minimum: 0}"),
            (COLUMN, COLUMN.replace("minimum: 0", "minimum: 0.5")),
        ],
        [],
    ),
    "categories": (
        ["listed-twice", "categories-type"],
        [(SITE, "categories: [a, a]"), (", minimum: 0}", ", categories: [a]}")],
        [],
    ),
    "owned-parameters": (
        ["owned-parameter", "owned-parameter", "unknown-parameter"],
        [("{max_depth: 4, learning_rate: 0.1,", "{seed: 4, eval_metric: error, max_dept: 3,")],
        [],
    ),
    "parameter-of-another-type": (["parameter-type"], [("{max_depth: 4,", "{max_depth: deep,")], []),
    "objective": (["objective-of-task"], [("tree_method: hist", "objective: reg:squarederror")], []),
    "split": (["split-sum"], [("validation: 0.2", "validation: 0.45"), ("test: 0.1", "test: 0.46")], []),
    "replicas-backwards": (["replicas-order"], [("min: 1", "min: 5")], [("{max: 3}", "{max: null}")]),
    "replicas-override": (["replicas-local"], [], [("{max: 3}", "{max: 9}")]),
    "body-limit": (["body-limit"], [("128KiB", "193KiB")], []),
    "no-time": (["no-time"], [("30m", "0s")], []),
    "override-misspelt": (["unknown-field"], [], [("    rounds: 20", "    ruonds: 20")]),
    "override-removes-required": (["missing"], [], [("  training:\n    rounds: 20\n", "  features: null\n")]),
    "target": (["choice"], [], [("target: local", "target: locl")]),
    "project-folder": (["project-folder"], [], [("../pumps", "../pump")]),
    "both-files": (
        ["choice", "type", "unknown-field"],
        [("  rounds: 100", "  round: 100")],
        [("target: local", "target: x"), ("rounds: 20", "rounds: x")],
    ),
    "function-missing": (["function-missing"], [("features:build", "features:biuld")], []),
    "module-missing": (["module-missing"], [("source:read", "sources:read")], []),
    "secret-in-field": (["unknown-field", "plaintext-secret"], [(PYTHON, PYTHON + "    db_password: hunter2\n")], []),
    "secret-in-url": (
        ["plaintext-secret", "object-store"],
        [(PYTHON, "    csv: https://reader:hunter2@archive/\n")],
        [],
    ),
    "floor-of-another-task": (
        ["floor-metric", "floor-metric"],
        _with("monitoring:\n  floors: {rmse: 3}\ngates:\n  floors: {acuracy: 0.8}"),
        [],
    ),
    "drift-windows": (["drift-windows"], _with("monitoring:\n  drift: {windows: [3, 2]}"), []),
    "part-of-a-day": (["whole-days"], _with("monitoring:\n  window: 36h"), []),
    "short-holdout": (["holdout-day"], _with("gates:\n  holdout: 12h"), []),
    "slices": (
        ["loop-column", "loop-column-known", "listed-twice"],
        _with("monitoring:\n  slices: [sight, failed, site, site]"),
        [],
    ),
    "key": (["loop-column-known"], _with("rollout:\n  key: failed"), []),
    "cron": (["cron"], _with('retraining:\n  triggers:\n    schedule: {cron: "0 24 * * MON"}'), []),
    "cron-of-no-day": (["cron"], _with('retraining:\n  triggers:\n    schedule: {cron: "0 4 30 2 *"}'), []),
    "time-zone": (
        ["time-zone", "time-zone"],
        _with(
            "retraining:\n  timezone: Europe/Zurich2\n  triggers:\n"
            '    schedule: {cron: "0 4 * * *", timezone: Mars/Olympus}'
        ),
        [],
    ),
    "quiet-hours": (["quiet-hours"], _with("retraining:\n  quiet_hours: 22:00-22:00"), []),
    "shift-unseen": (
        ["shift-unseen"],
        _with("retraining:\n  triggers: {drift: false}\n  window: {kind: since_shift}"),
        [],
    ),
    "short-training-window": (["window-span"], _with("retraining:\n  window: {kind: sliding, span: 1h}"), []),
    "budget-without-price": (["budget-price"], _with("retraining:\n  budget: {money: 100}"), []),
    "stages": (
        ["stage-time", "stage-shares", "stage-order"],
        _with(
            "rollout:\n  stages:\n  - {kind: canary, share: 0.5, time: 3d, deadline: 2d}\n"
            "  - {kind: canary, share: 0.05}\n  - {kind: shadow}"
        ),
        [],
    ),
    "challenger-without-time": (["no-time"], _with("rollout:\n  timeout: 0s"), []),
    "alerts": (
        ["listed-twice", "alert-secret"],
        _with("alerts:\n  owners: {data: [MAIL_URL, MAIL_URL], model: [HOOK]}\n  webhooks: {chat: HOOK}"),
        [],
    ),
    "approvals": (
        ["approvals", "approver-key"],
        [],
        [
            (
                "target: local\n",
                "target: local\napprovals:\n  required: 3\n  approvers:\n"
                + "".join(f"    {name}: {'A' * 43}=\n" for name in ("ada", "emmy")),
            )
        ],
    ),
    "cluster-nobodys": (["missing"], [], _lent("clusters: {lab: {workers: 2}}")),
    "cluster-name": (["pattern"], [], _lent("clusters: {Lab 1: {owner: ada}}")),
    "cluster-not-kept": (["clusters-keep"], [], _lent("clusters: {lab: {owner: ada}}", keep="false")),
    "cluster-too-big": (
        ["workers-local", "gpus-local"],
        [],
        _lent("clusters:\n  lab: {owner: ada, workers: 6, gpus: 1}\n  bench: {owner: emmy, workers: 3}"),
    ),
    "cluster-without-time": (
        ["no-time", "no-time", "save-often"],
        [],
        _lent("clusters:\n  lab: {owner: ada, lease: {ttl: 0s, idle: 0s}, save: {every: 1s}}"),
    ),
    "cluster-without-price": (["budget-price"], [], _lent("clusters: {lab: {owner: ada, budget: {money: 100}}}")),
    "cluster-without-hours": (
        ["hours-span", "listed-twice", "hours-days", "time-zone"],
        [],
        _lent(
            "clusters:\n  lab: {owner: ada, lease: {hours: {span: 07:00-07:00, days: [mon, mon]}}}\n"
            "  bench: {owner: ada, lease: {hours: {span: 07:00-20:00, days: [], timezone: Mars/Olympus}}}"
        ),
    ),
    "cluster-of-odd-hours": (
        ["pattern", "choice"],
        [],
        _lent("clusters: {lab: {owner: ada, lease: {hours: {span: 7-20, days: [monday]}}}}"),
    ),
    "lease-extended-never": (["range"], [], _lent("clusters: {lab: {owner: ada, lease: {extend: {times: 0}}}}")),
    "lease-extended-by-nothing": (
        ["no-time", "no-time"],
        [],
        _lent("clusters: {lab: {owner: ada, lease: {extend: {by: 0s}, warn: [1d, 0s]}}}"),
    ),
    "ceiling-below-its-own": (
        ["ceiling", "ceiling", "ceiling", "gpus-local"],
        [],
        _lent(
            "ceiling: {clusters: 1, cpus: 4, gpus: 0}\nclusters:\n"
            "  lab: {owner: ada, workers: 2, cpus: 2, gpus: 1}\n  bench: {owner: ada, cpus: 1}"
        ),
    ),
    "lease-no-day": (["value"], [], _lent("clusters: {lab: {owner: ada, lease: {end: tomorrow}}}")),
    "kpi-missing": (["function-missing"], _with("monitoring:\n  kpi: features:value"), []),
    "kpi-arguments": (["function-arguments"], _with("monitoring:\n  kpi: source:read"), []),
    "secret-for-its-name": (["pattern"], [("[HISTORIAN_PASSWORD]", "[hunter2]")], []),
}


@pytest.mark.parametrize("word", BROKEN)
def test_a_broken_spec_is_refused_with_the_promised_lines(word, checkout):
    codes, project, stack = BROKEN[word]
    refusal = checkout.edit(project, stack).refusal()
    golden = GOLDEN / f"{word}.txt"
    if os.environ.get("STACKYARD_WRITE_GOLDEN"):
        assert not os.environ.get("CI"), "golden files are written by people, not by CI"
        golden.write_text(f"{refusal}\n", encoding="utf-8")
    assert sorted(problem.code for problem in refusal.problems) == sorted(codes)
    assert f"{refusal}\n" == golden.read_text(encoding="utf-8")
    assert "hunter2" not in str(refusal)


def test_every_golden_file_belongs_to_a_broken_spec():
    assert {file.stem for file in GOLDEN.glob("*")} == set(BROKEN)


def test_every_line_names_an_existing_line_of_a_file(checkout):
    checkout.edit(
        [("  rounds: 100", "  round: 100"), ("known: after", "known: later")], [("target: local", "target: x")]
    )
    for problem in checkout.refusal().problems:
        lines = problem.file.read_text(encoding="utf-8").splitlines()
        last = problem.origin.keys[-1]
        assert str(last) in lines[problem.line - 1]


def test_the_sample_itself_is_sound(checkout):
    assert checkout.load().project.training.rounds == 20
