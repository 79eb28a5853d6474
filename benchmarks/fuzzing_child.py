"""One forked child: how it begins, how it is watched, how it ends."""

import atexit
import faulthandler
import fcntl
import gc
import os
import pty
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 20  # of computing, or of waiting for what never comes
WAITING = 5  # asleep all that time without a moment of computing
MEMORY = 2**31  # bytes
FILE_SIZE = 2**29  # the most bytes of a file that a case may write
CHECK_EVERY = 0.004  # seconds

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


def import_everything() -> None:
    """Import all that any command uses, in the parent, without computing anything."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.pyplot  # noqa: F401
    import pooch  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tiktoken  # noqa: F401
    import torch
    import zstandard  # noqa: F401

    import glassgpt.__main__
    import glassgpt.cli.playing.session
    import glassgpt.data.vocabulary
    import glassgpt.inspection.pictures
    import glassgpt.inspection.report
    import glassgpt.interop.tokenizer_json
    import glassgpt.training.comparison
    import glassgpt.training.flow_drawing
    import glassgpt.training.session  # noqa: F401

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what is there stays shared with the children


def run_child(run: Run, folder: Path) -> Outcome:
    """Fork, run, watch, and tell how it ended. Everything that the child prints or records is below `folder`."""
    gone: list[int] = []
    open_end = terminal = None
    stdin_end: int | None = None
    if run.stdin == "open":
        stdin_end, open_end = os.pipe()
    if "terminal" in (run.stdin, run.stdout, run.stderr):
        terminal, terminal_end = pty.openpty()
        gone.append(terminal_end)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            if open_end is not None:
                os.close(open_end)
            _begin(run, folder, stdin_end, gone[0] if gone else None)
            code = _act(run.action, folder)
        except BaseException:
            traceback.print_exc()
            code = 99
        os._exit(code)
    for descriptor in (*gone, *([stdin_end] if stdin_end is not None else [])):
        os.close(descriptor)
    ended, where, seen = _watch(pid, run, terminal, open_end, began, folder)
    _, status, usage = os.wait4(pid, 0)
    if terminal is not None:
        seen += _read_terminal(terminal)
        os.close(terminal)
    if open_end is not None:
        with suppress(OSError):
            os.close(open_end)
    children = _kill_group(pid)
    outcome = Outcome(
        code=os.waitstatus_to_exitcode(status),
        stdout=_content(folder / "stdout") + seen,
        stderr=_content(folder / "stderr"),
        seconds=time.monotonic() - began,
        peak=usage.ru_maxrss * 1024,
        ended=ended,
        where=where,
        uncaught=_content(folder / "std-uncaught").decode("utf-8", "replace"),
        connected=_content(folder / "std-connected").decode("utf-8", "replace"),
        children=children and not ended and run.kill_after is None,
        on_terminal=tuple(name for name in ("stdout", "stderr") if getattr(run, name) == "terminal"),
    )
    for name in ("stdout", "stderr", "std-in", "std-where", "std-uncaught", "std-connected"):
        (folder / name).unlink(missing_ok=True)
    return outcome


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(2**20)
    return b""


def _begin(run: Run, folder: Path, stdin_end: int | None, terminal: int | None) -> None:
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
            stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115, PTH123
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


def _act(action: Callable[[], int], folder: Path) -> int:
    """In the child: run the action as an interpreter would, with everything that comes after it."""
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

    socket.getaddrinfo = refuse  # type: ignore[assignment]
    socket.create_connection = refuse


def command(words: list[str], folder: Path) -> int:
    """In the child: the command line, and a note of every exception that only a last net catches."""
    import glassgpt.__main__
    from glassgpt.cli import main as module
    from glassgpt.errors import UserError

    original = getattr(module, "run", None)
    foreseen = (UserError, module.CycloptsError, OSError, MemoryError, KeyboardInterrupt, SystemExit)

    def run(given: list[str]) -> int:
        try:
            return original(given)  # type: ignore[misc]
        except foreseen:
            raise
        except BaseException as error:
            if not (isinstance(error, RuntimeError) and "memory" in str(error)):
                record(folder, traceback.format_exc())
            raise

    if original is not None:
        module.run = run
    sys.argv = ["glassgpt", *words]
    sys.modules["__main__"] = glassgpt.__main__  # what worker processes import
    module.main()
    return 0


def _watch(
    pid: int, run: Run, terminal: int | None, open_end: int | None, began: float, folder: Path
) -> tuple[str, str, bytes]:
    """Wait for the child; end it if it takes too long or too much."""
    seen, interrupted, asleep_since, last_cpu = b"", 0.0, began, -1.0
    pause = 0.001
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if terminal is not None:
            seen += _read_terminal(terminal)
        time.sleep(pause)
        pause = min(CHECK_EVERY, pause * 1.3)
        now = time.monotonic()
        try:
            state, cpu, size = _state(pid)
        except (OSError, ValueError, IndexError):
            continue
        if run.kill_after is not None and now - began > run.kill_after:
            os.kill(pid, signal.SIGKILL)
            break
        if open_end is not None and now - began > 2:
            with suppress(OSError):
                os.close(open_end)
        if run.patience is not None and not interrupted and cpu > run.patience:
            os.kill(pid, signal.SIGINT)
            interrupted = cpu
        if cpu != last_cpu or state == "R":
            asleep_since, last_cpu = now, cpu
        memory, waiting = size > MEMORY, now - asleep_since > WAITING
        if memory or waiting or cpu - interrupted > SECONDS or now - began > 10 * SECONDS:
            where = _where(pid, folder)
            os.kill(pid, signal.SIGKILL)
            return "memory" if memory else "hang", where, seen
    return "", "", seen


def _state(pid: int) -> tuple[str, float, int]:
    """Whether it runs or sleeps, how long it has computed with all that it started, and its memory in bytes."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    cpu = sum(map(int, fields[11:15])) / ticks
    state = fields[0]
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            with suppress(OSError):
                inner = Path(f"/proc/{child}/stat").read_text(encoding="ascii", errors="replace")
                inner_fields = inner.rpartition(")")[2].split()
                cpu += sum(map(int, inner_fields[11:15])) / ticks
                state = "R" if inner_fields[0] == "R" else state
    return state, cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def _where(pid: int, folder: Path) -> str:
    """The function that a child is in, by the traceback that it writes when asked (see `faulthandler`)."""
    with suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
        for _ in range(100):
            time.sleep(0.01)
            if lines := _content(folder / "std-where").decode("utf-8", "replace").splitlines():
                break
    ours = [line.strip() for line in lines if "/glassgpt/" in line]
    return ours[0].partition("/src/")[2] if ours else ""


def _read_terminal(terminal: int) -> bytes:
    found = b""
    while select.select([terminal], [], [], 0)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        found += data
    return found


def _kill_group(pid: int) -> bool:
    """End whatever is left of a child's session. Returns whether there was anything that did not end by itself."""
    for _ in range(200):  # workers notice a moment later that their parent is gone
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return False
        if not _living(pid):
            return False
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return True


def _living(group: int) -> bool:
    """Whether a process of a group does more than wait for whoever takes note of its end."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                return True
    return False
