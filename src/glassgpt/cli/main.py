"""The command `glassgpt`: finds the command, turns what a user can cause into one line, and leaves the rest to it.

Nothing heavy is imported here: a command loads what it needs, such as torch, when it is called.
"""

import os
import re
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from glassgpt import __version__
from glassgpt.cli.bench import bench
from glassgpt.cli.compare import compare
from glassgpt.cli.evaluate import evaluate
from glassgpt.cli.generate import generate
from glassgpt.cli.info import info
from glassgpt.cli.inspect import inspect
from glassgpt.cli.options import INTERRUPTED
from glassgpt.cli.overrides import print_fields, take_overrides
from glassgpt.cli.play import play
from glassgpt.cli.plot import plot
from glassgpt.cli.prepare import prepare
from glassgpt.cli.recipes import recipes
from glassgpt.cli.tokenizer import tokenizer
from glassgpt.cli.train import train
from glassgpt.errors import UserError


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
    """Run the command line and exit: 0 done, 2 something the user can mend, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # text of any script must not end a run on a narrow console
            stream.reconfigure(encoding="utf-8", errors="replace")
    warnings.formatwarning = lambda message, *_args, **_named: f"glassgpt: warning: {message}\n"
    try:
        sys.exit(run(words))
    except UserError as error:
        _fail(str(error))
    except CycloptsError as error:
        error.verbose = False
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        _fail("out of memory: a smaller model, batch or block is needed (see glassgpt info)")
    except OSError as error:  # a full disk, a folder that may not be written: the machine's, not ours
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")


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


def _fail(message: str) -> None:
    line = " ".join(message.splitlines())
    print(f"glassgpt: {line}", file=sys.stderr)
    sys.exit(2)
