"""The entry point `glassgpt`: finds the command, runs it, and turns every error into one line.

Nothing heavy is imported here: a command loads what it needs, such as torch, when it is called.
"""

import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from cyclopts import App, CycloptsError

from glassgpt import __version__
from glassgpt.cli.bench import bench
from glassgpt.cli.compare import compare
from glassgpt.cli.evaluate import evaluate
from glassgpt.cli.generate import generate
from glassgpt.cli.info import info
from glassgpt.cli.inspect import inspect
from glassgpt.cli.lookup import MistakenWordError
from glassgpt.cli.mistakes import Mistake
from glassgpt.cli.options import BUG, INTERRUPTED, USER_ERROR
from glassgpt.cli.output import open_closed_streams, silence, use_utf8
from glassgpt.cli.overrides import UnknownFieldError, print_fields, take_overrides
from glassgpt.cli.play import play
from glassgpt.cli.plot import plot
from glassgpt.cli.prepare import prepare
from glassgpt.cli.recipes import recipes
from glassgpt.cli.tokenizer import tokenizer
from glassgpt.cli.train import train
from glassgpt.errors import UserError, printable, reason, shorten
from glassgpt.paths import is_text, readable

HELP = """A GPT you can see through: train, resume and generate on your own text.

`--debug`, as the first or the last word of a command, shows the traceback of an error; so does GLASSGPT_DEBUG=1.
"""
LONGEST_LINE = 600  # characters of an error


def make_app() -> App:
    """The command line; the help of each command is its function's docstring."""
    app = App(
        name="glassgpt",
        help=HELP,
        version=__version__,
        help_flags=["--help", "-h"],
        result_action="return_value",
    )
    for command in (train, generate, play, evaluate, compare, plot, inspect, prepare, info, recipes):
        app.command(command)
    app.command(tokenizer)
    app.command(bench)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 a bug, 2 an error that the user can fix, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("GLASSGPT_DEBUG", "").lower() not in ("", "0", "false", "no", "off")
    for place in (0, -1):
        if words and words[place] == "--debug":
            debug = True
            del words[place]
    code = INTERRUPTED
    with suppress(KeyboardInterrupt), _safety_net(debug):  # a second Ctrl-C while the first is handled
        code = _run_to_the_end(words, debug)
    sys.exit(code)


def _run_to_the_end(words: list[str], debug: bool) -> int:
    """Run a command, print an error in one line, and return the exit code."""
    try:
        open_closed_streams()
        use_utf8()
        code = run(words)
        sys.stdout.flush()  # a full disk or a closed pipe raises here
        return code
    except SystemExit as ended:  # raised by a library: rich does so if the pipe is closed
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return 0
    except BaseException as error:  # also those not derived from Exception, such as a panic in a Rust library
        if debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        return _explain(error)


def _explain(error: BaseException) -> int:
    """Print in one line why a command failed; return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        silence(sys.stdout)
        return 0
    if isinstance(error, UserError):
        return _fail(str(error))
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", reason(error)):
        return _fail("out of memory: close other programs, or use a smaller model, batch size or block size")
    if isinstance(error, ImportError) and not (error.name or "").startswith("glassgpt"):
        package = (error.name or "a library").partition(".")[0]
        return _fail(f"{package} cannot be loaded ({reason(error)}): reinstall glassgpt in an environment of its own")
    if isinstance(error, OSError):  # a full disk, a read-only folder: no bug
        if error.filename is None:
            silence(sys.stdout)  # it may be what failed
        return _fail(f"{shorten(_name(error.filename))}: {reason(error)}")
    _fail(
        f"a bug in glassgpt, not yours: {type(error).__name__}: {reason(error)}: please report it with the command and "
        "what `glassgpt --debug COMMAND …` prints",
    )
    return BUG


def _name(filename: object) -> str:
    """The name of a file in an error of the operating system, which may be text, bytes, a number or None."""
    if isinstance(filename, bytes):
        return os.fsdecode(filename)
    return "input or output" if filename is None else str(filename)


@contextmanager
def _safety_net(debug: bool) -> Iterator[None]:
    """Show warnings and exceptions in threads and destructors in one line each."""

    def one_line(message: Warning | str, *_where: Any, **_named: Any) -> str:
        return f"glassgpt: warning: {shorten(printable(str(message)), LONGEST_LINE)}\n"

    def failed_aside(failure: Any) -> None:
        error = failure.exc_value
        if isinstance(error, SystemExit | KeyboardInterrupt | BrokenPipeError | None):
            return
        if debug:
            traceback.print_exception(error)
        _print_error(f"warning: {type(error).__name__} beside the work: {reason(error)}")

    before = warnings.formatwarning, threading.excepthook, sys.unraisablehook
    warnings.formatwarning, threading.excepthook, sys.unraisablehook = one_line, failed_aside, failed_aside
    try:
        yield
    finally:
        warnings.formatwarning, threading.excepthook, sys.unraisablehook = before


def run(words: list[str]) -> int:
    """Parse the words and call the command; return its exit code.

    Raises:
        UserError: the words are not a valid command; the message suggests one if possible.
    """
    app = make_app()
    command = parse(app, words)
    try:
        code = command()
    except MistakenWordError as error:
        raise UserError(Mistake(app, words).mistaken_word(error)) from error
    return code if isinstance(code, int) else 0


def parse(app: App, words: list[str]) -> Callable[[], Any]:
    """The command that the words call, bound to its arguments.

    Raises:
        UserError: the words are not a valid command.
    """
    _require_text(words)
    try:
        rest, overrides = take_overrides(words)
        command, bound, ignored = app.parse_args(rest, exit_on_error=False, print_error=False)
        if "overrides" in ignored:
            bound.arguments["overrides"] = overrides
        elif overrides and command != app.help_print:
            raise UnknownFieldError(
                "", next(word for word in words if word.startswith("--") and word not in rest).partition("=")[0]
            )
    except CycloptsError as error:
        raise UserError(Mistake(app, words).explain(error)) from error
    except UnknownFieldError as error:
        raise UserError(Mistake(app, words).unknown_option(error.option)) from error
    if command == app.help_print and rest[:1] == ["train"]:
        return partial(_help_of_train, partial(command, *bound.args, **bound.kwargs))
    return partial(command, *bound.args, **bound.kwargs)


def _help_of_train(print_help: Callable[[], Any]) -> None:
    print_help()
    print_fields()


def _require_text(words: Sequence[str]) -> None:
    """Make sure that every word is valid text, because recipes, tokens and messages contain them.

    Raises:
        UserError: a word is not UTF-8, such as a file name from another system.
    """
    for word in words:
        if not is_text(word):
            raise UserError(f"{shorten(readable(word))}: not UTF-8: rename the file, or convert the text")


def _fail(message: str) -> int:
    _print_error(message)
    return USER_ERROR


def _print_error(message: str) -> None:
    line = shorten(printable(message), LONGEST_LINE)
    try:
        print(f"glassgpt: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # standard error is closed or full
        silence(sys.stderr)
