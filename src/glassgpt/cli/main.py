"""The command `glassgpt`: finds the command, turns what a user can cause into one line, and leaves the rest to it.

Nothing heavy is imported here: a command loads what it needs, such as torch, when it is called.
"""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError

from glassgpt import __version__
from glassgpt.cli.bench import bench
from glassgpt.cli.compare import compare
from glassgpt.cli.evaluate import evaluate
from glassgpt.cli.generate import generate
from glassgpt.cli.info import info
from glassgpt.cli.inspect import inspect
from glassgpt.cli.options import BUG, INTERRUPTED, USER_ERROR
from glassgpt.cli.overrides import print_fields, take_overrides
from glassgpt.cli.play import play
from glassgpt.cli.plot import plot
from glassgpt.cli.prepare import prepare
from glassgpt.cli.recipes import recipes
from glassgpt.cli.tokenizer import tokenizer
from glassgpt.cli.train import train
from glassgpt.errors import UserError, printable, reason


def make_app() -> App:
    """The command line; what each command says of itself is its function's docstring."""
    app = App(
        name="glassgpt",
        help="A GPT you can see through: train, resume and generate on your own text.",
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
    """Run the command line and exit: 0 done, 1 a bug, 2 something the user can fix, 130 interrupted.

    `--debug` before the command, or GLASSGPT_DEBUG=1, shows the traceback of whatever ended it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = words[:1] == ["--debug"] or os.environ.get("GLASSGPT_DEBUG", "") not in ("", "0")
    if words[:1] == ["--debug"]:
        del words[0]
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # text of any script must not end a run on a narrow console
            stream.reconfigure(encoding="utf-8", errors="replace")
    warnings.formatwarning = lambda message, *_args, **_named: f"glassgpt: warning: {message}\n"
    try:
        code = run(words)
        sys.stdout.flush()  # what a full disk or a closed pipe refuses, it refuses here
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say in one line what ended a command; return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
        _silence_stdout()
        return 0
    if isinstance(error, UserError):
        return _fail(str(error))
    if isinstance(error, CycloptsError):
        error.verbose = False
        return _fail(str(error))
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", str(error)):
        return _fail("out of memory: a smaller model, batch or block is needed (see glassgpt info)")
    if isinstance(error, OSError):  # a full disk, a folder that may not be written: the machine's, not ours
        if error.filename is None:
            _silence_stdout()  # it may be what could not be written, and Python writes what is left when it exits
        return _fail(f"{error.filename or 'input or output'}: {reason(error)}")
    _fail(
        f"a bug in glassgpt, not yours: {type(error).__name__}: {reason(error)}: please report it with the command and "
        "what `glassgpt --debug COMMAND …` prints",
    )
    return BUG


def _silence_stdout() -> None:
    """Send what is still to be written nowhere: Python would fail on it once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Let a standard stream that is closed (as by `>&-`) be an empty one: to Python it is None.

    Each takes the lowest number that is free, which is its own: the next file would else have it, and get whatever a
    library writes to standard output or standard error.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def run(words: list[str]) -> int:
    """Parse the words and call the command; return its exit code."""
    rest, overrides = take_overrides(words)
    app = make_app()
    command, bound, ignored = app.parse_args(rest, exit_on_error=False, print_error=False)
    if "overrides" in ignored:
        bound.arguments["overrides"] = overrides
    elif overrides and command != app.help_print:
        section, fields = next(iter(overrides.items()))
        raise UserError(f"--{section}.{next(iter(fields))}: only train and info (and bench) take recipe fields")
    code = command(*bound.args, **bound.kwargs)
    if command == app.help_print and rest[:1] == ["train"]:
        print_fields()
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    line = printable(" ".join(message.split()))
    with suppress(OSError):  # there may be no one to tell
        print(f"glassgpt: {line}", file=sys.stderr, flush=True)
    return USER_ERROR
