"""Files and folders that are there whole or not at all, and the folder of caches."""

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

# What a file system answers that has no such call: network and memory file systems, some in containers.
UNSUPPORTED = {getattr(errno, name) for name in ("ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "ENOLCK")}
_LONGEST_NAME = 200  # bytes of a name that temporary names repeat; file systems take 255
_numbers = count()  # for temporary names: threads of one process may write the same file


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlive a power cut. Windows cannot open folders, and needs no such call."""
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
    """Wait until what was written to an open file is on the disk. `path` names it in a warning."""
    _fsync(handle, path.parent)


def _fsync(handle: int, folder: Path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warn_once(f"{folder}: this file system does not confirm writes: a power cut may lose the newest files")


def warn_once(message: str, _said: set[str] = set()) -> None:  # noqa: B006 - it is meant to last
    """Warn, the first time that this is said."""
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=2)


def temporary_name(path: Path) -> Path:
    """A new name beside `path` for what is not whole yet. It says which process of which machine made it."""
    return path.with_name(f"{_beginning(path)}{os.getpid()}-{_machine()}-{next(_numbers)}.tmp")


def _beginning(path: Path) -> str:
    """What all temporary names beside `path` begin with."""
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")
    return f".{name}."


@cache
def _machine() -> str:
    """A folder may be shared by machines, whose processes have the same numbers."""
    return f"{crc32(platform.node().encode()):08x}"


def is_temporary(path: Path) -> bool:
    """Whether its name is one that `temporary_name` gives, or gave in earlier versions."""
    return re.fullmatch(r"\..+\.\d+(-[0-9a-f]{8}-\d+)?\.tmp", path.name) is not None


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes of this machine left beside `path` under temporary names."""
    if os.name != "posix":
        return  # there is no harmless way to ask for a process
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
    """Yield a temporary path to write; what was written takes the place of `path` at the end, all at once.

    If the block raises, or the machine stops, `path` is as it was. What a killed process left of an earlier try goes.
    """
    remove_abandoned(path)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk has no name of its own
        raise
    finally:
        with suppress(OSError):  # it has its new name, or cannot be removed either: the error above says why
            temporary.unlink()


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it gets the name `path` when it is complete.

    A folder that has the name is replaced by it, and is back under its name if that fails.
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
    """Rename a folder to `path`; one that is there already is removed afterwards, or put back if that fails."""
    old = temporary_name(path)
    had_old = path.exists()  # a folder cannot be renamed onto a full one
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
    """Remove a folder that nobody needs, as far as that can be done; what does not work once may work the next time."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def check_no_file(path: Path) -> None:
    """Make sure that a folder can have this name.

    Raises:
        UserError: a file has it, or a link that leads nowhere.
    """
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: a link to {path.readlink()}, which is not there: remove the link")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: a file is where a folder is to be: move it elsewhere")


def remove_folder(path: Path) -> None:
    """Remove a folder in such a way that no half of it is ever left under its name."""
    if path.is_symlink():
        path.unlink()  # what it leads to is someone else's
        return
    temporary = temporary_name(path)
    path.rename(temporary)
    shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write in this folder or below."""
    # The second kind is safetensors' own: it writes to such a file beside the one that it was given.
    for path in (*filter(is_temporary, folder.rglob(".*.tmp")), *folder.glob(".tmp??????")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or a folder from another one of the same name; None if there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def having_folder(path: Path) -> Iterator[None]:
    """Let a folder be there; if it was not before, and is still empty at the end, it and new ones above it go again."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the first that is not empty
            for folder in new:
                folder.rmdir()


def cache_folder() -> Path:
    """Where corpora, prepared texts and compiled models are kept: `GLASSGPT_CACHE`, or the usual place for a cache."""
    own_folder = os.environ.get("GLASSGPT_CACHE")
    if own_folder:
        return expand(own_folder)
    import pooch

    return Path(pooch.os_cache("glassgpt"))


def warn_no_cache(folder: Path, error: OSError) -> None:
    """Say once that a cache cannot be used: this costs time, never the command."""
    warn_once(
        f"{folder}: the cache cannot be used ({reason(error)}), so nothing is kept for the next time: "
        "name another folder in GLASSGPT_CACHE"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 with newlines as they are, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON in ASCII (so that any string fits, lone surrogates too), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
