"""One forked child: how it begins, how it is watched, how it ends."""

import atexit
import faulthandler
import fcntl
import gc
import os
import pkgutil
import resource
import signal
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS = 20  # of computing, or of waiting for what never comes
MEMORY = 2**31  # bytes
FILE_SIZE = 2**29  # the most bytes of a file that a case may write

Stream = bytes | str
"""Bytes to be read; or closed; open (a pipe that nothing comes through for a while); gone (a pipe whose other end is
closed); terminal; or the path of a file."""


@dataclass
class Run:
    """What a child does.

    Attributes:
        action: called in the child; its result is the exit code.
        stdin, stdout, stderr: see `Stream`; "file" is kept and looked at.
        environment: variables that differ from a plain environment; None: not set.
        patience: seconds of computing after which Ctrl-C is pressed, for what may take as long as it was asked to.
        limit: bytes of memory that the system grants, or None; then using more than `MEMORY` ends the child.
        kill_after: seconds until SIGKILL.
    """

    action: Callable[[], int]
    stdin: Stream = b""
    stdout: str = "file"
    stderr: str = "file"
    environment: dict[str, str | None] = field(default_factory=dict)
    patience: float | None = None
    limit: int | None = None
    kill_after: float | None = None


@dataclass
class Outcome:
    """How a child ended.

    Attributes:
        code: its exit code, or minus the signal that ended it.
        ended: "hang" or "memory" if it had to be killed.
        where: in which function it was then.
        peak: the most memory, in bytes.
        uncaught: the traceback of an exception that the program did not foresee.
        connected: the first address outside this machine that it asked for.
        children: whether processes that it had started were still running.
        on_terminal: which of stdout and stderr were one; what it showed is in `stdout`.
    """

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    peak: int
    ended: str = ""
    where: str = ""
    uncaught: str = ""
    connected: str = ""
    children: bool = False
    on_terminal: tuple[str, ...] = ()


LIBRARIES = (  # that are imported only where they are needed, and take a while
    *("cyclopts.help", "encodings.ascii", "encodings.utf_8_sig", "filelock", "matplotlib.backends.backend_agg"),
    *(
        "matplotlib.backends.backend_svg",
        "matplotlib.pyplot",
        "numpy.random",
        "PIL.BmpImagePlugin",
        "PIL.GifImagePlugin",
    ),
    *(
        "PIL.JpegImagePlugin",
        "PIL.PpmImagePlugin",
        "PIL.PngImagePlugin",
        "pooch",
        "pyarrow.parquet",
        "rich._emoji_codes",
    ),
    *("rich.progress", "safetensors.torch", "tiktoken", "torch", "zstandard"),
)


def import_everything() -> None:
    """Import all that any command uses, in the parent, without computing anything.

    OpenMP gets one thread, since a pool of threads does not survive a fork.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before torch and numpy are imported
    import glassgpt

    ours = [module.name for module in pkgutil.walk_packages(glassgpt.__path__, "glassgpt.")]
    for name in (*LIBRARIES, *ours):
        with suppress(ImportError):  # an extra that is not installed, or a name of another version
            import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what is there stays shared with the children


def begin(run: Run, folder: Path, stdin_end: int | None, terminal: int | None) -> None:
    """In the child: folders, environment, limits, streams."""
    os.setsid()
    os.chdir(folder / "work")
    for name in [name for name in os.environ if name.startswith(("GLASSGPT", "XDG_", "PYTHON", "MPL", "LC_"))]:
        del os.environ[name]
    plain: dict[str, str | None] = {
        "HOME": str(folder / "home"),
        "GLASSGPT_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(sys.modules["glassgpt"].__file__ or "").parent.parent),
        "COLUMNS": "100",
        **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    }
    for name, value in {**plain, **run.environment}.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    import tempfile

    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    if run.limit is not None:
        resource.setrlimit(resource.RLIMIT_AS, (run.limit, run.limit))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, (folder / "std-where").open("w", encoding="utf-8"))
    if isinstance(run.stdin, bytes):
        (folder / "std-in").write_bytes(run.stdin)
    ends = {"open": stdin_end, "terminal": terminal}
    sources = [
        _source(run.stdin, folder / "std-in", os.O_RDONLY, ends),
        _source(run.stdout, folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, ends),
        _source(run.stderr, folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, ends),
    ]
    for number, source in enumerate(sources):
        os.close(number) if source is None else os.dup2(source, number)
    for source in sources:
        if source is not None:
            os.close(source)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, name, None)  # as Python has it
        else:
            errors = "backslashreplace" if name == "stderr" else "strict"
            stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _source(what: Stream, usual: Path, flags: int, ends: dict[str, int | None]) -> int | None:
    """A descriptor above those of the standard streams for what one of them is to be; None: closed."""
    if what == "closed":
        return None
    if what == "gone":
        reader, source = os.pipe()
        os.close(reader)
    elif isinstance(what, str) and (end := ends.get(what)) is not None:
        source = end
    else:
        source = os.open(usual if isinstance(what, bytes) or what == "file" else what, flags)
    return fcntl.fcntl(source, fcntl.F_DUPFD, 20)


def act(action: Callable[[], int], folder: Path) -> int:
    """In the child: run the action as an interpreter would, with everything that comes after it."""
    atexit._clear()  # what libraries of the parent do at the end takes longer than most commands
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    _record_threads(folder)
    _block_network(folder)
    try:
        code = action()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        if not (folder / "std-uncaught").exists():  # `command` has noted it already
            record(folder, traceback.format_exc())
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        record(folder, traceback.format_exc())
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            record(folder, traceback.format_exc()) if code == 0 else None
            code = code or 120
    return code


def record(folder: Path, text: str) -> None:
    """Note what nobody caught."""
    with (folder / "std-uncaught").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _record_threads(folder: Path) -> None:
    def in_thread(args: Any) -> None:
        record(folder, "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)))

    def unraisable(args: Any) -> None:
        record(folder, "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)))

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def _block_network(folder: Path) -> None:
    """No case needs another machine; what asks for one is noted, and told that it cannot be reached."""

    def refuse(*args: Any, **_: Any) -> Any:
        with (folder / "std-connected").open("w", encoding="utf-8") as file:
            file.write(repr(args[-1] if args else "?"))
        raise OSError(101, "Network is unreachable")

    socket.getaddrinfo = refuse
    socket.create_connection = refuse


def command(words: list[str], folder: Path) -> int:
    """In the child: the command line, and a note of every exception that only a last net catches."""
    from cyclopts import CycloptsError

    import glassgpt.__main__
    from glassgpt.cli import main as module
    from glassgpt.errors import UserError

    original = module.run
    foreseen = (UserError, CycloptsError, OSError, MemoryError, KeyboardInterrupt, SystemExit)

    def run(given: list[str]) -> int:
        try:
            return int(original(given))
        except foreseen:
            raise
        except BaseException as error:
            if not (isinstance(error, RuntimeError) and "memory" in str(error)):
                record(folder, traceback.format_exc())
            raise

    module.run = run  # type: ignore[assignment]
    sys.argv = ["glassgpt", *words]
    sys.modules["__main__"] = glassgpt.__main__  # what worker processes import
    module.main()
    return 0
