"""Recipes: TOML files in this folder, found by name, or anywhere, found by path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from glassgpt.errors import UserError, shorten, show, suggest
from glassgpt.files import write_text
from glassgpt.paths import expand
from glassgpt.reading import MEGABYTE, read_toml
from glassgpt.recipes.config import Recipe, TrainingConfig

__all__ = ["Recipe", "TrainingConfig", "load_recipe", "recipe_names", "recipe_text", "save_recipe"]

FOLDER = Path(__file__).parent
MOST_BYTES = 16 * MEGABYTE  # of a recipe: its sources may be many files, its prompt a chapter


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
    if not isinstance(overrides or {}, Mapping):
        raise TypeError(
            f"overrides: a mapping is needed, such as {{'training': {{'max_steps': 9}}}}, not {show(overrides)}"
        )
    path = FOLDER / f"{name}.toml" if str(name) in recipe_names() else expand(name)
    if not path.exists():
        raise UserError(f"no recipe {shorten(name)!r}: {suggest(str(name), recipe_names())}")
    values = read_toml(path, "a recipe", MOST_BYTES)
    return Recipe.parse(merge(values, overrides or {}), "" if path.parent == FOLDER else str(path))


def merge(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `overrides` laid over them, section by section."""
    merged = dict(values)
    for key, value in overrides.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with every field, so that it means the same when a default changes.

    Raises:
        UserError: it could not be read back.
        OSError: it cannot be written.
    """
    write_text(path, recipe_text(recipe))


def recipe_text(recipe: Recipe) -> str:
    """A recipe in TOML.

    Raises:
        UserError: it could not be read back: it holds text that is not UTF-8, as some file names are, or too much.
    """
    text = tomli_w.dumps(recipe.model_dump(exclude_none=True))
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 40) : error.end].encode("utf-8", "backslashreplace").decode("utf-8")
        raise UserError(f"…{shorten(near)}: not UTF-8, so the recipe cannot hold it: rename it") from None
    if size > MOST_BYTES:
        raise UserError(f"the recipe would take {size / 1e6:.0f} MB: name a folder or a pattern instead of many files")
    return text
