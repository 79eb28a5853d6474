"""Files that are there whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError

if TYPE_CHECKING:
    from safetensors import SafetensorError
    from torch import Tensor


class DamagedError(UserError):
    """A file is missing, or does not hold what it should; not: it cannot be read just now."""


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlive a power cut. Windows cannot open folders, and needs no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; what was written takes the place of `path` at the end, all at once.

    If the block raises, or the machine stops, `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk has no name of its own
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it gets the name `path`, replacing what was there, when it is complete."""
    check_no_file(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            sync_file(file)
        sync_folder(temporary)
        if path.exists():  # a folder cannot be renamed onto a full one
            shutil.rmtree(path)
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.rename(temporary)
    shutil.rmtree(temporary)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or a folder from another one of the same name; None if there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def having_folder(path: Path) -> Iterator[None]:
    """Let a folder be there; if it was not before, and is still empty at the end, it goes again."""
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):
                path.rmdir()


class FileLockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def holding(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock, a file that is there meanwhile; what a killed process leaves of it holds nobody up.

    Args:
        path: the file.
        wait: until another process lets go of it; the file stays then, since others may be waiting for it.

    Raises:
        FileLockedError: another process holds it.
        OSError: it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise FileLockedError from None
    try:
        mine = identity(path)
        yield
    finally:
        if not wait:
            with suppress(OSError):  # before it is let go, or it might be the next one's; on Windows that removes it
                if identity(path) == mine:  # its folder may have been moved, and another be there
                    path.unlink()
        lock.release()


def cache_folder() -> Path:
    """Where corpora, prepared texts and compiled models are kept: `GLASSGPT_CACHE`, or the usual place for a cache."""
    own_folder = os.environ.get("GLASSGPT_CACHE")
    if own_folder:
        return Path(own_folder)
    import pooch

    return Path(pooch.os_cache("glassgpt"))


def is_temporary(path: Path) -> bool:
    """Whether its name is one that `replacing` and `creating_folder` give to what is not whole yet."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write in this folder or below."""
    # The second kind is safetensors' own: it writes to such a file beside the one that it was given.
    for path in (*filter(is_temporary, folder.rglob(".*.tmp")), *folder.glob(".tmp??????")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 with newlines as they are, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON in ASCII (so that any string fits, lone surrogates too), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object. `what` names the file's role in the error message.

    Raises:
        DamagedError: the file is missing, or does not hold a JSON object.
        UserError: it cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(f"{path}: no such file (expected {what})") from None
    except OSError as error:
        raise UserError(f"{path}: not readable as {what}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as {what}: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path}: not readable as {what}: it does not hold a JSON object")
    return value


def read_json_lines(path: Path) -> list[dict[str, Any] | None]:
    """The objects in a file of one a line: None for a line that is damaged, no line at all where there is no file.

    A last line without its end is left out: a crash cut it short.
    """
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # each line ends in \n, so the last is empty
        try:
            value = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            value = None
        found.append(value if isinstance(value, dict) else None)
    return found


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Read a safetensors file to the CPU.

    Raises:
        DamagedError: it is missing or damaged.
        UserError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        path.stat()
        return load_file(path)
    except FileNotFoundError:
        raise DamagedError(
            f"{path}: no such file: the run was stopped before it saved any weights, or the file was removed"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        if refused := _os_error(error):
            raise UserError(f"{path}: cannot be read: {refused.strerror}") from None
        raise DamagedError(f"{path}: damaged: {error}") from None
    except ValueError as error:
        raise DamagedError(f"{path}: damaged: {error}") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        DamagedError: it is missing.
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DamagedError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def save_tensors(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Write tensors from any device as a safetensors file, whole or not at all; equal tensors give equal bytes.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        on_cpu: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, tensor in tensors.items():
            copy = tensor.detach().cpu().contiguous()
            # The format refuses two names for one memory (tied weights): the second is written as a copy.
            on_cpu[name] = copy.clone() if copy.data_ptr() in seen else copy
            seen.add(copy.data_ptr())
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        try:
            save_file(on_cpu, temporary, {"format": "pt"})  # (two keys here would come in random order)
        except SafetensorError as error:
            raise _os_error(error) or OSError(errno.EIO, str(error)) from None
        temporary.chmod(usual_mode)  # safetensors makes files that only their owner may read


def _os_error(error: "SafetensorError") -> OSError | None:
    """What the operating system refused, if that is what the library means to say."""
    found = re.search(r"([^:]+) \(os error (\d+)\)", str(error))
    return OSError(int(found[2]), found[1].strip()) if found else None
