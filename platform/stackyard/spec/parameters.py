"""Which parameters of XGBoost an author may set, and which ones the platform sets itself.

A repeated run must give the same model, on the resources the spec asks for; so what fixes the seed, the threads, the
device, the objective or the number of rounds has a field of its own. XGBoost only warns of a name that it does not
know: here a misspelt one is an error. Names as in the parameter reference of XGBoost 3.
"""

from __future__ import annotations

from typing import Final

from stackyard.spec.problems import nearest

_BY_FIELD: Final = {
    "training.seed": ("seed", "random_state", "seed_per_iteration"),
    "training.threads": ("nthread", "n_jobs", "num_threads"),
    "training.workers": ("num_workers",),
    "training.rounds": ("num_boost_round", "n_estimators", "num_round", "num_rounds"),
    "task.classes": ("num_class", "num_target"),
    "task.metric": ("eval_metric", "disable_default_eval_metric", "custom_metric"),
}
_BY_PLATFORM: Final = (
    "device", "gpu_id", "predictor", "use_rmm", "verbosity", "verbose_eval", "silent", "validate_parameters",
    "process_type", "updater", "refresh_leaf", "callbacks", "model_in", "model_out", "data",
)  # fmt: skip

OWNED: Final[dict[str, str | None]] = {
    **{name: field for field, names in _BY_FIELD.items() for name in names},
    **dict.fromkeys(_BY_PLATFORM),
}
"""Parameters that the platform sets, each with the field that stands for it, if there is one."""

_OPEN = """
    alpha base_score booster colsample_bylevel colsample_bynode colsample_bytree early_stopping_rounds eta
    feature_selector gamma grow_policy huber_slope interaction_constraints lambda learning_rate max_bin
    max_cached_hist_node max_cat_threshold max_cat_to_onehot max_delta_step max_depth max_leaves
    min_child_weight min_split_loss monotone_constraints multi_strategy normalize_type num_parallel_tree
    objective one_drop rate_drop reg_alpha reg_lambda sample_type sampling_method scale_pos_weight skip_drop
    subsample top_k tree_method tweedie_variance_power
"""
KNOWN: Final = frozenset(_OPEN.split())
"""Parameters that an author may set; `early_stopping_rounds` belongs to the training, the others to the booster."""

WORDS: Final = frozenset({
    "booster", "feature_selector", "grow_policy", "interaction_constraints", "monotone_constraints", "multi_strategy",
    "normalize_type", "objective", "sample_type", "sampling_method", "tree_method",
})  # fmt: skip
"""Parameters whose value is a word; every other one takes a number."""

OBJECTIVES: Final = {
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
    "regression": (
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:gamma",
        "reg:tweedie",
        "count:poisson",
    ),
}
"""The losses of each task type; the first is the default. Others answer something else than the task asks for."""


def refusal(name: str) -> tuple[str, str, str, str | None] | None:
    """Code, rule, remedy and suggestion for a parameter that may not be set; None for one that may."""
    if name in OWNED:
        field = OWNED[name]
        remedy = f"set {field}" if field else "leave it out"
        return "owned-parameter", "is set by the platform, so that a run can be repeated", remedy, None
    if name not in KNOWN:
        return "unknown-parameter", "is not a parameter of XGBoost", "see its parameter reference", nearest(name, KNOWN)
    return None
