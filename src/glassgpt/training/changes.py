"""What may change in a run that goes on, and what may not."""

from collections.abc import Mapping
from typing import Any

from glassgpt.data.sources import STDIN, absolute_sources
from glassgpt.errors import UserError, shorten
from glassgpt.recipes import Recipe, merge

# All other fields decide what a step sees or computes, what the checkpoint holds, or how the best so far was measured.
FREE_FIELDS = (
    *("description", "data.source", "sampling"),
    # how long
    *(f"training.{field}" for field in ("max_steps", "epochs", "max_seconds", "patience", "max_skipped_steps")),
    # how it learns from here on
    *(f"training.{field}" for field in ("learning_rate", "min_learning_rate", "schedule", "warmup_steps")),
    *(f"training.{field}" for field in ("decay_fraction", "beta1", "beta2", "eps", "weight_decay", "grad_clip")),
    *(f"training.{field}" for field in ("embedding_learning_rate", "muon_learning_rate")),
    *(f"training.{field}" for field in ("muon_momentum", "muon_rounds")),
    # where, which is the same up to rounding
    *(f"training.{field}" for field in ("device", "precision", "threads", "compile", "activation_checkpointing")),
    # how it is watched
    *(f"training.{field}" for field in ("eval_every", "checkpoint_every", "keep_checkpoints", "log_every")),
    *(f"training.{field}" for field in ("watch_gradients", "track")),
)


def changed_recipe(old: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The run's recipe with some fields changed.

    Raises:
        UserError: a field does not exist, or cannot be that.
    """
    new = Recipe.parse(merge(old.model_dump(exclude_none=True), overrides))
    if STDIN in new.data.source and STDIN not in old.data.source:
        raise UserError("--data=-: a run goes on with the text that it has: leave it out")
    return new.replace(data=new.data.replace(source=absolute_sources(new.data.source)).model_dump())


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each field that is another in a run that goes on, such as "training.eps 1e-08 -> 1e-06 (allowed)".

    Args:
        old: what it was made with so far, as a recipe's `model_dump(mode="json")`; fields that it does not know, since
            they came later, are passed over.
        new: what it goes on with.

    Raises:
        UserError: some must not change; all of them are named.
    """
    changed = [
        (name, f"{name} {_show(value)} -> {_show(now[name])}")
        for now in [_flat(new)]
        for name, value in _flat(old).items()
        if name in now and now[name] != value
    ]
    fixed = [line for name, line in changed if not _is_free(name)]
    if fixed:
        raise UserError(f"{', '.join(fixed)}: cannot change in a run that goes on: put it back, or begin a new run")
    return [f"{line} (allowed)" for _, line in changed]


def _is_free(name: str) -> bool:
    return name in FREE_FIELDS or name.partition(".")[0] in FREE_FIELDS


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names."""
    flat: dict[str, Any] = {}
    for section, fields in recipe.items():
        flat |= {f"{section}.{key}": v for key, v in fields.items()} if isinstance(fields, dict) else {section: fields}
    return flat


def _show(value: Any) -> str:
    """As one would type it behind an option."""
    if isinstance(value, list):
        return shorten(", ".join(map(str, value))) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else shorten(value)
