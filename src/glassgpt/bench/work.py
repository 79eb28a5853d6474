"""What is trained in a comparison: a model's shape and the size of a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.data.vocabulary import vocabulary_size
from glassgpt.errors import UserError, suggest
from glassgpt.model.config import ModelConfig
from glassgpt.model.sizing import sizes
from glassgpt.recipes import Recipe, TrainingConfig, load_recipe, merge, recipe_names

SHAPES = {  # layers, heads, width, context, batch, vocabulary
    "0.8M": (4, 4, 128, 64, 12, 65),
    "10.7M": (6, 6, 384, 256, 8, 65),
    "124M": (12, 12, 768, 256, 2, 50304),
}
ENDLESS = 10**9  # steps: a measurement ends before
FIXED = {  # so that nothing is evaluated or saved in a measurement, and nothing ends it
    "max_steps": ENDLESS,
    "epochs": None,
    "max_seconds": None,
    "patience": None,
    "eval_every": ENDLESS,
    "checkpoint_every": None,
    "threads": None,  # see the option --threads
}


@dataclass(frozen=True)
class Work:
    """A model to be trained, and how.

    Attributes:
        name: of the shape or the recipe.
        changes: what was asked for beside that, as `section.field=value`.
        is_shape: whether it is one of `SHAPES`, which transformers' GPT-2 has too.
    """

    name: str
    model: ModelConfig
    training: TrainingConfig
    changes: tuple[str, ...] = ()
    is_shape: bool = True

    @property
    def tokens(self) -> int:
        """In one optimizer step."""
        return self.model.block_size * self.training.batch_size * self.training.gradient_accumulation

    @property
    def parameters(self) -> int:
        """How many."""
        return sizes(self.model).parameters

    @property
    def flops_per_token(self) -> int:
        """Of training, at this context: see `model.sizing`."""
        return sizes(self.model).flops_per_token_training

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**vars(self), "model": self.model.model_dump(), "training": self.training.model_dump()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Work":
        """From what `to_dict` gave."""
        model, training = ModelConfig.parse(values["model"]), TrainingConfig.parse(values["training"])
        return cls(values["name"], model, training, tuple(values["changes"]), values["is_shape"])

    def __str__(self) -> str:
        model, parts = self.model, self.training.gradient_accumulation
        accumulated = f" x {parts}" if parts > 1 else ""
        return (
            f"{self.name}: {model.n_layer} layers, {model.n_head} heads, width {model.n_embd}, context "
            f"{model.block_size}, batch {self.training.batch_size}{accumulated}, vocabulary {model.vocabulary:,}"
        )


def find_work(name: str, changes: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any] | None = None) -> Work:
    """A shape by name, with GPT-2's architecture, or what a recipe trains.

    Args:
        name: one of `SHAPES`, or a recipe by name or file.
        changes: fields of the recipe, by section.
        settings: fields of its section `training` that are no change of what is trained, such as the device.

    Raises:
        UserError: there is no such shape or recipe, or a field is wrong, or has no say in a measurement.
    """
    for part, fields in changes.items():
        for field in fields:
            if (part == "training" and field in FIXED) or (name in SHAPES and part not in ("model", "training")):
                raise UserError(f"{part}.{field}: has no say in a measurement of {name}: leave it out")
    changed = tuple(f"{part}.{field}={value}" for part, fields in changes.items() for field, value in fields.items())
    fixed = {"training": {**(settings or {}), **FIXED}}
    if name in SHAPES:
        n_layer, n_head, n_embd, block_size, batch_size, vocab_size = SHAPES[name]
        shape = {
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "block_size": block_size,
            "vocab_size": vocab_size,
            "activation": "gelu_tanh",
        }
        base = {"model": shape, "training": {"batch_size": batch_size, "learning_rate": 3e-4}}
        recipe = Recipe.parse(merge(merge(base, changes), fixed))
        return Work(name, recipe.model, recipe.training, changed)
    if name not in recipe_names() and not Path(name).is_file():
        raise UserError(f"no shape or recipe {name!r}: {suggest(name, [*SHAPES, *recipe_names()])}")
    recipe = load_recipe(name, merge(changes, fixed))
    model = recipe.model
    if model.vocab_size is None:
        model = model.replace(vocab_size=vocabulary_size(recipe.tokenizer, recipe.data))
    return Work(Path(name).stem, model, recipe.training, changed, is_shape=False)
