"""Where to keep what can be made again. A cache that cannot be used costs time, never the command."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from errno import ENOENT
from functools import cache
from pathlib import Path
from typing import TypeVar

from glassgpt.errors import UserError, reason
from glassgpt.files import cache_folder, warn_no_cache

Made = TypeVar("Made")


def in_cache(kind: str, make: Callable[[Path], Made]) -> Made:
    """Call `make` with a folder of the cache; if that cannot be written, with one that is removed at the end.

    Args:
        kind: the name of the folder, such as "tokens".
        make: writes into the folder that it is given, which is there. It may be called a second time, with another.

    Raises:
        UserError: not even a temporary folder can be written.
    """
    folder = cache_folder() / kind
    try:
        if not folder.is_absolute() and not os.environ.get("GLASSGPT_CACHE"):
            raise OSError(ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        return make(folder)
    except OSError as error:
        warn_no_cache(folder, error)
    instead = _temporary_folder() / kind
    try:
        instead.mkdir(exist_ok=True)
        return make(instead)
    except OSError as error:
        raise UserError(f"{instead}: cannot be written: {reason(error)}: name another folder in TMPDIR") from None


@cache
def _temporary_folder() -> Path:
    """A folder that is there until this process ends. (What is mapped into memory can be read to the end even so.)"""
    try:
        folder = tempfile.mkdtemp(prefix="glassgpt-")
    except OSError as error:
        raise UserError(f"no temporary folder can be made ({reason(error)}): name one in TMPDIR") from None
    atexit.register(_remove, folder, os.getpid())
    return Path(folder)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked from this one
        shutil.rmtree(folder, ignore_errors=True)
