"""One-line explanations of wrong command lines, with the command that was probably meant."""

import os
import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Literal, get_args, get_origin

from cyclopts import App, CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from glassgpt.cli import lookup, options, synonyms
from glassgpt.cli.lookup import MistakenWordError
from glassgpt.errors import UserError, shorten, show
from glassgpt.paths import expand

LONGEST = 240  # characters of a command that is suggested


class Mistake:
    """A command line that was refused.

    Args:
        app: the command line's definition.
        words: the words of the command line.
    """

    def __init__(self, app: App, words: Sequence[str]):
        self.words = list(words)
        self.chain = tuple(_chain(app, self.words))
        self._app = app

    # --- sentences -----------------------------------------------------------------------------------------------

    def explain(self, error: CycloptsError) -> str:
        """One line that says what is wrong."""
        unused = list(error.unused_tokens or [])
        if isinstance(cause := error.__cause__, UserError | options.UnknownOptionError):
            line = self._of_value(error, cause)
        elif isinstance(error, UnknownCommandError) and unused:
            line = self.unknown_command(unused[0])
        elif isinstance(error, UnknownOptionError):
            line = self.unknown_option(error.token.keyword or error.token.value)
        elif isinstance(error, MissingArgumentError) and error.argument is not None:
            line = self._missing(error)
        elif isinstance(error, CoercionError) and error.token is not None and error.target_type is not None:
            line = self._wrong_value(error)
        elif isinstance(error, UnusedCliTokensError) and unused:
            line = self._too_many(unused)
        else:
            error.verbose = False
            line = shorten(error, 400)
        return line

    def _of_value(self, error: CycloptsError, cause: Exception) -> str:
        """The line for a value that a converter or validator of glassgpt refused."""
        if isinstance(cause, options.UnknownOptionError):
            return self.unknown_option(str(cause))
        if isinstance(cause, MistakenWordError):
            return self.mistaken_word(cause)
        token = getattr(error, "token", None) or next(iter(getattr(error.argument, "tokens", [])), None)
        if token is None or not token.keyword:
            return str(cause)
        value = f" {shorten(token.value)}" if isinstance(cause, options.WrongValueError) else ""
        return f"{token.keyword}{value}: {cause}"

    def mistaken_word(self, error: MistakenWordError) -> str:
        """The line for a word that is not valid in its position."""
        if error.meant is not None and error.word in self.words:
            place = self.words.index(error.word, min(len(self.chain), len(self.words) - 1))
            meant = error.meant[1:] if place and self.words[place - 1] == error.meant[0] else error.meant
            command: list[str] | None = [*self.words[:place], *meant, *self.words[place + 1 :]]
        else:
            command = error.command or error.meant
        return _with_command(str(error), command)

    def unknown_command(self, word: str) -> str:
        """The line for an unknown command."""
        place = len(self.chain)
        before, rest = self.words[:place], self.words[place + 1 :]
        if word.startswith("-"):
            return self.unknown_option(word)
        meant = self._meant_below(word, rest) if before else _meant_command(word, rest)
        names = _commands(_app_of(self._app, self.chain))
        if meant is None and (near := get_close_matches(word.lower(), names, n=1, cutoff=0.6)):
            meant = [*before, near[0], *rest]
        what = f"unknown command {show(word)}" + (f" of glassgpt {before[0]}" if before else "")
        return _with_command(what, meant) if meant else f"{what}: known: {', '.join(names)}"

    def _meant_below(self, word: str, rest: list[str]) -> list[str] | None:
        if self.chain[0] == "tokenizer" and lookup.looks_like_text(expand(word)):
            return ["tokenizer", "train", word, *rest, *([] if "--out" in rest else ["--out", "tokenizer.json"])]
        if self.chain[0] == "tokenizer" and lookup.is_run(expand(word)):
            return ["tokenizer", "info", word, *rest]
        return None

    def unknown_option(self, word: str) -> str:
        """The line for an unknown option."""
        name, equals, value = word.partition("=")
        place = next((n for n, given in enumerate(self.words) if given in (word, name)), len(self.words))
        before, rest = self.words[:place], self.words[place + 1 :]
        if not equals and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        what = f"unknown option {shorten(name)}"
        if name == "--debug":
            return "--debug: give it as the first or the last word"
        if not self.chain:
            for command in ("train", "generate"):
                if name in Mistake(self._app, [command]).options():
                    return _with_command(what, [command, *self.words])
            return f"{what}: glassgpt --help lists the commands"
        meant = self._meant_option(name, value)
        if meant is not None:
            return _with_command(what, [*before, *meant, *rest], short=meant[0])
        if "." in name and not takes_fields(self.chain):
            return f"{what}: only train, info and bench take the fields of a recipe"
        return f"{what}: see glassgpt {' '.join([*self.chain, '--help'])}"

    def _meant_option(self, name: str, value: str) -> list[str] | None:
        """The words that should replace an unknown option and its value; None if nothing matches."""
        bare = name.lstrip("-").lower().replace("_", "-")
        values = [value] if value else []
        if words := self._positional(bare, value):
            return words
        known = {option.removeprefix("--"): option for option in self.options() if option.startswith("--")}
        for synonym, behind in ((f"{bare} {value}", []), (bare, values), (bare.rpartition(".")[2], values)):
            for option in synonyms.OPTIONS.get(synonym, []):
                target, _, fixed = option.partition(" ")
                if target in known:
                    is_file = target == "tokenizer.kind" and value.endswith(".json")
                    return ["--tokenizer.file" if is_file else known[target], *([fixed] if fixed else behind)]
        last = {key.rpartition(".")[2]: key for key in reversed(known)}
        for candidates in ({key: key for key in known}, last):
            for part in (bare, bare.rpartition(".")[2]):
                if part in candidates:
                    return [known[candidates[part]], *values]
        near = get_close_matches(bare, known, n=1, cutoff=0.7)
        near = near or [last[found] for found in get_close_matches(bare.rpartition(".")[2], last, n=1, cutoff=0.75)]
        return [known[near[0]], *values] if near else None

    def _positional(self, bare: str, value: str) -> list[str] | None:
        """The words for an option of other commands that is a positional argument of this one."""
        if bare not in synonyms.POSITIONAL or not self.chain or not value:
            return None
        first = next(iter(_app_of(self._app, self.chain).assemble_argument_collection()), None)
        if first is None or first.name.startswith("-"):
            return None
        if self.chain == ("train",):
            try:
                lookup.check_recipe(value)
            except MistakenWordError as error:
                return error.meant
        return [value]

    def options(self) -> list[str]:
        """Every option of the command, the fields of a recipe included if it takes them."""
        app = _app_of(self._app, self.chain)
        arguments = app.assemble_argument_collection() if app.default_command else []
        found = [name for argument in arguments if argument.parse for name in argument.names if name.startswith("-")]
        return [*found, *(_fields() if takes_fields(self.chain) else [])]

    def _missing(self, error: MissingArgumentError) -> str:
        assert error.argument is not None
        name = error.keyword or error.argument.name
        command = f"glassgpt {' '.join(self.chain)}"
        runs = lookup.find_runs()
        if name == "--resume" and runs:
            return _with_command(f"{name}: a run folder is missing", ["train", "--resume", str(runs[0])])
        if not name.startswith("-"):
            if name == "RUN" and runs:
                return _with_command(f"{command}: a run folder is missing", [*self.words, str(runs[0])])
            return f"{command}: {name} is missing: see {command} --help"
        given = any(word.partition("=")[0] == name for word in self.words)
        return (
            f"{name}: a value is missing after it" if given else f"{command}: {name} is missing: see {command} --help"
        )

    def _wrong_value(self, error: CoercionError) -> str:
        token = error.token
        assert token is not None
        name, value = token.keyword or getattr(error.argument, "name", ""), show(token.value)
        if get_origin(error.target_type) is not Literal:
            return f"{name}: {value} is not a valid value: see glassgpt {' '.join([*self.chain, '--help'])}"
        choices = [str(choice) for choice in get_args(error.target_type)]
        near = get_close_matches(token.value, choices, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(choices)}"
        return f"{name}: {value} is not a choice: {hint}"

    def _too_many(self, unused: list[str]) -> str:
        what = f"too many words: {shorten(' '.join(unused), 60)}"
        command, run = (self.chain or ("",))[0], self.words[1:2]
        rest = [word for word in self.words if word not in unused]
        if command == "train":
            given = [word for word in self.words[1:] if lookup.source_kind(word)]
            if len(given) > 1:
                others = [word for word in self.words[1:] if word not in given]
                return _with_command(what, ["train", *(w for word in given for w in ("--data", word)), *others])
        if command in ("generate", "inspect") and run and "--prompt" not in self.words:
            return _with_command(what, [*rest, "--prompt", " ".join(unused)])
        if command == "evaluate" and all(map(lookup.source_kind, unused)):
            return _with_command(what, [*rest, *(w for word in unused for w in ("--data", word))])
        if command == "recipes":
            return _with_command(what, ["info", unused[0]])
        return f"{what}: see glassgpt {' '.join([*self.chain, '--help'])}"


def _with_command(what: str, command: Sequence[str] | None, short: str = "") -> str:
    """A message with the suggested command at the end of the line, where it is easy to copy."""
    if command is None:
        return what
    line = shlex.join(["glassgpt", *command])
    if len(line) <= LONGEST:
        return f"{what}. Did you mean: {line}"
    return f"{what}, did you mean {short}?" if short else what


def _chain(app: App, words: Sequence[str]) -> Iterator[str]:
    """The names of the command and subcommand at the beginning of the words."""
    for word in words:
        if word not in _commands(app):
            return
        yield word
        app = app[word]


def _app_of(app: App, chain: Sequence[str]) -> App:
    for name in chain:
        app = app[name]
    return app


def _commands(app: App) -> list[str]:
    return [name for name in app if not name.startswith("-")]


def takes_fields(chain: Sequence[str]) -> bool:
    """Whether a command takes recipe fields as options, by their dotted names."""
    return tuple(chain) in {("train",), ("info",), ("bench", "train"), ("bench", "generate")}


def _fields() -> list[str]:
    """Every field of a recipe, as an option."""
    from glassgpt.recipes import Recipe

    return [
        f"--{section}.{field.replace('_', '-')}"
        for section, info in Recipe.model_fields.items()
        for field in getattr(info.annotation, "model_fields", {})
    ]


def _meant_command(word: str, rest: list[str]) -> list[str] | None:
    """The command that an unknown first word stands for: a synonym, or the name of a recipe, model or path."""
    from glassgpt.model.sizing import GPT2_FAMILY
    from glassgpt.recipes import recipe_names

    runs = lookup.find_runs()
    newest = [str(runs[0])] if runs else []
    whole = {"help": [*rest[:1], "--help"], "version": ["--version"]}
    if word.lower() in whole:
        return whole[word.lower()]
    if meant := synonyms.COMMANDS.get(word.lower()):
        is_given = bool(rest) and not rest[0].startswith("-")
        takes_run = meant in ("generate", "play", "evaluate", "inspect", "info", "train --resume")
        return [*meant.split(), *(newest if takes_run and not is_given else []), *rest]
    if word in (*recipe_names(), *GPT2_FAMILY):
        return ["train" if word in recipe_names() else "info", word, *rest]
    if not os.path.lexists(expand(word)) and "/" not in word and lookup.source_kind(word) is None:
        return None
    return _meant_path(word, rest)


def _meant_path(word: str, rest: list[str]) -> list[str] | None:
    """The command for a run folder, a text or a recipe; None for anything else."""
    try:
        return ["generate", str(lookup.check_run(word)), *rest]
    except MistakenWordError as error:
        if error.meant:
            return ["generate", *error.meant, *rest]
        if error.command:
            return [*error.command, *rest]
    except UserError:
        return None
    return ["train", "--data", word, *rest] if lookup.source_kind(word) else None
