"""What may change in a run that goes on, and what may not."""

from collections.abc import Mapping
from typing import Any

from glassgpt.data.sources import STDIN, absolute_sources
from glassgpt.errors import UserError
from glassgpt.recipes import Recipe, merge

FIXED_FIELDS = (  # they decide which windows a step sees
    *(f"training.{field}" for field in ("seed", "batch_size", "gradient_accumulation")),
    *(
        f"data.{field}"
        for field in ("sha256", "val_fraction", "text_field", "separator", "cross_documents", "order", "stride")
    ),
)


def changed_recipe(old: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The run's recipe with some fields changed, if they may be.

    Raises:
        UserError: the change would make it another run.
    """
    new = Recipe.parse(merge(old.model_dump(exclude_none=True), overrides))
    if STDIN in new.data.source and STDIN not in old.data.source:
        raise UserError("--data=-: a run goes on with the text that it has: leave it out")
    new = new.replace(data=new.data.replace(source=absolute_sources(new.data.source)).model_dump())
    for section, fields in overrides.items():
        for field in fields:
            fixed = section in ("model", "tokenizer") or f"{section}.{field}" in FIXED_FIELDS
            if fixed and getattr(getattr(old, section), field) != getattr(getattr(new, section), field):
                raise UserError(f"{section}.{field} cannot change in a run that goes on: begin a new one with --out")
    return new
