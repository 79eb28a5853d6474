"""Locks between processes, which a killed process does not leave behind."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from glassgpt.files import UNSUPPORTED, identity, warn_once


class FileLockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def holding(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock, a file that is there meanwhile; a stale lock file blocks no one.

    On a file system without locks, a warning is given once, and the block runs without one.

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
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise
        warn_once(f"{path.parent}: this file system has no locks: let no other process write there meanwhile")
    try:
        with nullcontext() if wait else _unlinking(path):
            yield
    finally:
        with suppress(OSError):  # a lock that cannot be let go of ends with this process
            lock.release()


@contextmanager
def _unlinking(path: Path) -> Iterator[None]:
    """Remove a lock file before it is let go, or it might be the next one's. (On Windows, to let go removes it.)"""
    mine = None
    with suppress(OSError):
        mine = identity(path)
    try:
        yield
    finally:
        with suppress(OSError):
            if mine is not None and identity(path) == mine:  # its folder may have been moved, and another be there
                path.unlink()
