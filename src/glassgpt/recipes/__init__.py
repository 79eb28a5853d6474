"""Recipes: TOML files in this folder, found by name, or anywhere, found by path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from glassgpt.errors import UserError, shorten, suggest
from glassgpt.files import write_text
from glassgpt.paths import expand
from glassgpt.reading import read_toml
from glassgpt.recipes.config import Recipe, TrainingConfig

__all__ = ["Recipe", "TrainingConfig", "load_recipe", "recipe_names", "save_recipe"]

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name or by path, with some fields changed.

    Args:
        name: a name from `recipe_names`, or the path of a TOML file.
        overrides: nested as the recipe is, such as `{"training": {"max_steps": 100}}`; they replace its fields.

    Raises:
        UserError: there is no such recipe, it is not TOML, or a field is wrong.
    """
    path = FOLDER / f"{name}.toml" if str(name) in recipe_names() else expand(name)
    if not path.exists():
        raise UserError(f"no recipe {shorten(name)!r}: {suggest(str(name), recipe_names())}")
    values = read_toml(path, "a recipe")
    return Recipe.parse(merge(values, overrides or {}), "" if path.parent == FOLDER else str(path))


def merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `overrides` laid over them, section by section."""
    merged = dict(values)
    for key, value in overrides.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every field, so that it means the same when a default changes."""
    write_text(path, tomli_w.dumps(recipe.model_dump(exclude_none=True)))
