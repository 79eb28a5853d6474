"""Any field of a recipe by its dotted name: `--training.max-steps 100`, `--model.bias false`, `--sampling.stop=END`."""

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from glassgpt.errors import UserError, suggest


class UnknownFieldError(UserError):
    """A recipe has no such field.

    Attributes:
        option: as it was given, without its value.
    """

    def __init__(self, message: str, option: str):
        super().__init__(message)
        self.option = option


ESCAPED = (("sampling", "stop"), ("data", "separator"))  # where \n means a newline, as with --stop and --separator
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0", "none")


def take_overrides(words: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Split a command line into its other words and the recipe fields in it, as `{section: {field: value}}`.

    Values stay text, for the recipe's own validation; `none` means left out, a switch without a value means true, and
    a list's field may come several times.

    Raises:
        UserError: there is no such field, or its value is missing.
    """
    rest: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            return [*rest, word, *words], found
        if not re.fullmatch(r"--[a-z]\w*\.[a-z][\w-]*", name):
            rest.append(word)
            continue
        section, field, annotation = _find(name)
        if not equals:
            if bool in (annotation, *get_args(annotation)) and (not words or words[0].lower() not in BOOLEANS):
                value = "true"
            elif not words or words[0].startswith("--"):
                raise UserError(f"{name}: a value is missing after it")
            else:
                value = words.pop(0)
        fields = found.setdefault(section, {})
        if (section, field) in ESCAPED:
            value = _unescaped(value)
        if get_origin(annotation) is list and value == "none":
            fields[field] = []
        elif get_origin(annotation) is list:
            fields.setdefault(field, []).append(value)
        else:
            fields[field] = None if value == "none" else value
    return rest, found


def _unescaped(value: str) -> str:
    from glassgpt.data.decoding import unescaped

    return unescaped(value)


def _find(name: str) -> tuple[str, str, Any]:
    """The section, the field and its type."""
    from glassgpt.recipes import Recipe

    section, _, field = name.removeprefix("--").replace("-", "_").partition(".")
    sections = {key: info.annotation for key, info in Recipe.model_fields.items() if key != "description"}
    if section not in sections:
        raise UnknownFieldError(f"{name}: a recipe has no section {section!r}, {suggest(section, sections)}", name)
    fields = sections[section].model_fields  # type: ignore[union-attr]
    if field not in fields:
        raise UnknownFieldError(f"{name}: {section} has no field {field!r}, {suggest(field, fields)}", name)
    return section, field, fields[field].annotation


def _choices(annotation: Any) -> tuple[str, ...]:
    """The words that a field may be, if it may be only some."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def print_fields() -> None:
    """Print every field of a recipe with its default and what it means, as the configuration classes say it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from glassgpt.recipes import Recipe

    console = Console()
    console.print(
        "[bold]Fields of a recipe[/], each to be changed by its dotted name. In brackets, what holds where a recipe "
        "does not say; `none` takes a value back.\n"
    )
    for section, info in Recipe.model_fields.items():
        if section == "description":
            continue
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column()
        for field, inner in info.annotation.model_fields.items():  # type: ignore[union-attr]
            text = Text(inner.description or "")
            choices = _choices(inner.annotation)
            if choices and not all(choice in text.plain for choice in choices):
                text.append(f" ({', '.join(choices)})")
            default = inner.get_default(call_default_factory=True)
            if default not in (None, []):
                shown = str(default).lower() if isinstance(default, bool) else str(default)
                text.append(f" [{shown}]", style="dim")
            table.add_row(f"--{section}.{field.replace('_', '-')}", text)
        console.print(table)
        console.print()
