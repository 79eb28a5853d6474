"""Calls of the operating system, counted, so that one of them can fail or be the last thing that a process does.

Python's own functions are replaced in a child: those that open, read, write, rename, remove, lock and look at files.
Only calls about the case's own folders count. safetensors reads and writes by itself: its functions count as calls.
"""

import builtins
import errno
import fcntl
import io
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ERRORS = {  # what each call may fail with; a call interrupted by a signal is repeated by Python itself
    "open": (errno.EACCES, errno.EROFS, errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOSPC),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG),
    "read": (errno.EIO, errno.ESTALE),
    "fsync": (errno.EIO, errno.ENOSPC, errno.ENOTSUP, errno.EINVAL),
    "flock": (errno.ENOTSUP, errno.ENOLCK, errno.EIO),
    "rename": (errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EBUSY),
    "replace": (errno.EACCES, errno.EROFS, errno.EIO, errno.ENOSPC, errno.EBUSY),
    "unlink": (errno.EACCES, errno.EROFS, errno.EIO, errno.EBUSY),
    "rmdir": (errno.EACCES, errno.EROFS, errno.EBUSY),
    "mkdir": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EMLINK),
    "truncate": (errno.EACCES, errno.EIO, errno.EROFS),
    "stat": (errno.EACCES, errno.EIO, errno.ESTALE),
    "chmod": (errno.EPERM, errno.ENOTSUP, errno.EROFS),
    "scandir": (errno.EACCES, errno.EIO, errno.ESTALE),
    "mmap": (errno.ENOMEM, errno.ENODEV, errno.EACCES),
    "save_file": (errno.ENOSPC, errno.EIO, errno.EACCES),
    "load_file": (errno.EIO, errno.EACCES, errno.ENOMEM),
}
CHANGING = ("open", "write", "fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "truncate", "save_file", "chmod")
Act = Callable[[str, str, Callable[[], Any]], Any]
"""Called with a call's name, its path and itself; makes the call, or not."""

_PATCHED = {
    os: {
        "open": "open",
        "fsync": "fsync",
        "rename": "rename",
        "replace": "replace",
        "unlink": "unlink",
        "remove": "unlink",
        "rmdir": "rmdir",
        "mkdir": "mkdir",
        "truncate": "truncate",
        "ftruncate": "truncate",
        "stat": "stat",
        "chmod": "chmod",
        "scandir": "scandir",
        "listdir": "scandir",
        "sendfile": "write",
    },
    fcntl: {"flock": "flock"},
    mmap: {"mmap": "mmap"},
}
_real_open, _readlink, _fspath = io.open, os.readlink, os.fspath


def intercept(root: Path, act: Act) -> None:
    """Let `act` see every call about a path below `root`, in this process, from now on."""
    begin = str(root) + os.sep

    def calling(name: str, path: str | None, call: Callable[[], Any]) -> Any:
        return act(name, path, call) if path is not None and path.startswith(begin) else call()

    def wrap(module: Any, function: str, name: str) -> None:
        original = getattr(module, function)

        def wrapped(*args: Any, **named: Any) -> Any:
            return calling(name, _path_of(args[:1], named.get("dir_fd")), lambda: original(*args, **named))

        setattr(module, function, wrapped)

    class Watched(io.FileIO):
        """A file whose reads and writes are calls, too."""

        watched: str

        def write(self, data: Any) -> Any:
            return calling("write", self.watched, lambda: io.FileIO.write(self, data))

        def readinto(self, buffer: Any) -> Any:
            return calling("read", self.watched, lambda: io.FileIO.readinto(self, buffer))

        def readall(self) -> Any:
            return calling("read", self.watched, lambda: io.FileIO.readall(self))

    def opening(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        path = _path_of((file,), None)
        if path is None or not path.startswith(begin):
            return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)

        def call() -> Any:
            raw = Watched(file, mode.replace("b", "").replace("t", "").replace("U", ""), closefd, opener)
            raw.watched = path
            if buffering == 0:
                return raw
            buffered: Any
            if "+" in mode:
                buffered = io.BufferedRandom(raw)
            else:
                buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

        return calling("open", path, call)

    for module, functions in _PATCHED.items():
        for function, name in functions.items():
            wrap(module, function, name)
    builtins.open = io.open = opening
    _wrap_safetensors(calling)


def _wrap_safetensors(calling: Callable[[str, str | None, Callable[[], Any]], Any]) -> None:
    """Its functions fail as those in Rust do."""
    import safetensors.torch as module
    from safetensors import SafetensorError

    def wrap(function: str, position: int) -> None:
        original = getattr(module, function)

        def wrapped(*args: Any, **named: Any) -> Any:
            try:
                return calling(
                    function, _path_of(args[position : position + 1], None), lambda: original(*args, **named)
                )
            except OSError as error:
                raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None

        setattr(module, function, wrapped)

    wrap("save_file", 1)
    wrap("load_file", 0)


def _path_of(args: tuple[Any, ...], folder: int | None) -> str | None:
    """The absolute path that a call is about; None if that cannot be told."""
    if not args:
        return None
    with suppress(OSError, TypeError, ValueError):
        if isinstance(args[0], int):
            return _readlink(f"/proc/self/fd/{args[0]}")
        path = _fspath(args[0])
        path = os.fsdecode(path) if isinstance(path, bytes) else path
        base = os.getcwd() if folder is None else _readlink(f"/proc/self/fd/{folder}")  # noqa: PTH109
        return os.path.normpath(os.path.join(base, path))  # noqa: PTH118
    return None
