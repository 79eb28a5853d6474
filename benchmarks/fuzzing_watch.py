"""The parent's side of a child: it is forked, watched, ended if it takes too long or too much, and reported on."""

import os
import pty
import select
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path

from fuzzing_child import MEMORY, SECONDS, Outcome, Run, act, begin

WAITING = 5  # seconds asleep without a moment of computing
CHECK_EVERY = 0.004  # seconds


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
            begin(run, folder, stdin_end, gone[0] if gone else None)
            code = act(run.action, folder)
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
        stdout=content(folder / "stdout") + seen,
        stderr=content(folder / "stderr"),
        seconds=time.monotonic() - began,
        peak=usage.ru_maxrss * 1024,
        ended=ended,
        where=where,
        uncaught=content(folder / "std-uncaught").decode("utf-8", "replace"),
        connected=content(folder / "std-connected").decode("utf-8", "replace"),
        children=children and not ended and run.kill_after is None,
        on_terminal=tuple(name for name in ("stdout", "stderr") if getattr(run, name) == "terminal"),
    )
    for name in ("stdout", "stderr", "std-in", "std-where", "std-uncaught", "std-connected"):
        (folder / name).unlink(missing_ok=True)
    return outcome


def content(path: Path) -> bytes:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(2**20)
    return b""


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
            if lines := content(folder / "std-where").decode("utf-8", "replace").splitlines():
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
