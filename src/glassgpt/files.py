"""Atomic writing of files and folders (complete or not at all), and the cache folder."""

import errno
import json
import os
import platform
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

from glassgpt.errors import UserError, reason
from glassgpt.paths import expand

# Errors of file systems that lack a call: network and memory file systems, some in containers.
UNSUPPORTED = {getattr(errno, name) for name in ("ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "ENOLCK")}
_LONGEST_NAME = 200  # bytes of a name that its temporary names keep; file systems allow 255
_numbers = count()  # for temporary names: threads of one process may write the same file


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut. Windows cannot open folders and does not need this."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            _fsync(handle, folder)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    with path.open("rb+") as file:
        sync(file.fileno(), path)


def sync(handle: int, path: Path) -> None:
    """Wait until everything written to an open file is on the disk. A warning names the folder of `path`."""
    _fsync(handle, path.parent)


def _fsync(handle: int, folder: Path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warn_once(f"{folder}: this file system does not confirm writes: a power cut may lose the newest files")


def warn_once(message: str, _said: set[str] = set()) -> None:  # noqa: B006 - shared by all calls on purpose
    """Warn, but only the first time for each message."""
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=2)


def temporary_name(path: Path) -> Path:
    """A new name beside `path` for something incomplete. It tells which process on which machine made it."""
    return path.with_name(f"{_beginning(path)}{os.getpid()}-{_machine()}-{next(_numbers)}.tmp")


def _beginning(path: Path) -> str:
    """The common prefix of all temporary names beside `path`."""
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")
    return f".{name}."


@cache
def _machine() -> str:
    """A short hash of the machine's name: process ids are not unique in a folder that several machines share."""
    return f"{crc32(platform.node().encode()):08x}"


def is_temporary(path: Path) -> bool:
    """Whether a path has a name that `temporary_name` gives, or gave in earlier versions."""
    return re.fullmatch(r"\..+\.\d+(-[0-9a-f]{8}-\d+)?\.tmp", path.name) is not None


def remove_abandoned(path: Path) -> None:
    """Remove temporary files and folders that killed processes of this machine left beside `path`."""
    if os.name != "posix":
        return  # no safe way to ask whether a process is running
    beginning = _beginning(path)
    with suppress(OSError):
        for other in path.parent.glob(f"{escape(beginning)}*.tmp"):
            found = re.fullmatch(rf"(\d+)-{_machine()}-\d+\.tmp", other.name[len(beginning) :])
            if found and not _is_running(int(found[1])):
                discard(other) if other.is_dir() else other.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; at the end, the file replaces `path` atomically.

    If the block raises, or the machine stops, `path` is unchanged. What a killed process left earlier is removed.
    """
    remove_abandoned(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):  # the error of a full disk names no file
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # already renamed, or not removable either: the error above says why
            temporary.unlink()


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it is renamed to `path` when it is complete.

    It replaces an existing folder, which is restored if that fails.
    """
    check_no_file(path)
    remove_abandoned(path)
    temporary = temporary_name(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            sync_file(file)
        sync_folder(temporary)
        publish_folder(temporary, path)
    finally:
        discard(temporary)


def publish_folder(temporary: Path, path: Path) -> None:
    """Rename a folder to `path`; an existing one is removed afterwards, or restored if that fails."""
    old = temporary_name(path)
    had_old = path.exists()  # a folder cannot be renamed onto a non-empty one
    if had_old:
        path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        if had_old:
            old.rename(path)
        raise
    try:
        sync_folder(path.parent)
    finally:
        if had_old:
            discard(old)


def discard(folder: Path) -> None:
    """Remove a folder that is no longer needed, as far as possible: a second try may succeed if the first fails."""
    if folder.is_symlink():
        with suppress(OSError):
            folder.unlink()  # its target belongs to someone else
        return
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def check_no_file(path: Path) -> None:
    """Make sure that a folder can have this name.

    Raises:
        UserError: a file or a broken link has this name.
    """
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: a link to {path.readlink()}, which is not there: remove the link")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: a file is where a folder is to be: move it elsewhere")


def remove_folder(path: Path) -> None:
    """Remove a folder so that no partial one is ever left under its name."""
    if path.is_symlink():
        path.unlink()  # its target belongs to someone else
        return
    temporary = temporary_name(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files and folders that a killed process left in this folder or below."""
    # The second pattern is safetensors': it writes to such a file beside its target.
    for path in (*filter(is_temporary, folder.rglob(".*.tmp")), *folder.glob(".tmp??????")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file or folder, which tell it from a later one of the same name; None if it is missing."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def having_folder(path: Path) -> Iterator[None]:
    """Create a folder if it is missing. If it is still empty at the end, remove it and the parents created with it."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # stops at the first that is not empty
            for folder in new:
                folder.rmdir()


def cache_folder() -> Path:
    """The folder of corpora, prepared texts and compiled models: `GLASSGPT_CACHE`, or the system's cache folder."""
    own_folder = os.environ.get("GLASSGPT_CACHE")
    if own_folder:
        return expand(own_folder)
    import pooch

    return Path(pooch.os_cache("glassgpt"))


def warn_no_cache(folder: Path, error: OSError) -> None:
    """Warn once that a cache cannot be used. The command still works, but takes longer."""
    warn_once(
        f"{folder}: the cache cannot be used ({reason(error)}), so nothing is cached: "
        "set GLASSGPT_CACHE to another folder"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 with newlines unchanged."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a value atomically as indented JSON in ASCII (so that any string is valid, lone surrogates too)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
