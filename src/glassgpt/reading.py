"""Reading of files: regular files of bounded size, checked against a schema before anything uses them."""

import hashlib
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from glassgpt.errors import DamagedError, UnreadableError, reason, shorten

MEGABYTE = 2**20
MOST_BYTES = 256 * MEGABYTE  # limit for a file that is read as a whole; GPT-2's tokenizer has about 1 MB
MOST_LINE = 16 * MEGABYTE  # limit for one line
MOST_LINES = 2**30  # limit for a file that is read line by line, in bytes
MOST_DEPTH = 64  # nesting depth of lists and objects
T = TypeVar("T")


def open_regular(path: Path, what: str) -> BufferedReader:
    """Open a regular file to read its bytes.

    A pipe would wait for a writer, and a device such as /dev/zero would never end.

    Args:
        path: path of the file; links are followed.
        what: the file's role, for error messages, such as "a recipe".

    Raises:
        DamagedError: the file is missing, or not a regular file.
        UnreadableError: the file cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer. (Windows has neither the flag nor such pipes.)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(f"{path}: no such file (expected {what})") from None
    except (OSError, ValueError) as error:
        if path.is_dir():
            raise DamagedError(f"{path}: not readable as {what}: a folder, not a file") from None
        raise UnreadableError(f"{path}: not readable as {what}: {reason(error)}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise DamagedError(f"{path}: not readable as {what}: {kind}, not a file")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, what: str, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        DamagedError: the file is missing, larger, or not a regular file.
        UnreadableError: the file cannot be read.
    """
    try:
        with open_regular(path, what) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UnreadableError(f"{path}: not readable as {what}: {reason(error)}") from None
    if len(data) > most:
        raise DamagedError(f"{path}: not readable as {what}: larger than {most // MEGABYTE} MB")
    return data


def read_text(path: Path, what: str, most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        DamagedError: the file is missing, larger, not a regular file, or not UTF-8.
        UnreadableError: the file cannot be read.
    """
    try:
        return read_bytes(path, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: not readable as {what}: not UTF-8 (at byte {error.start:,})") from None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object without a schema."""
    return read_json_as(path, what, dict[str, Any])


def read_json_as(path: Path, what: str, kind: type[T], most: int = MOST_BYTES) -> T:
    """Read a JSON object that has a schema.

    Args:
        path: path of the file.
        what: the file's role, for error messages.
        kind: schema of the object: a `typing_extensions.TypedDict` or a pydantic model.
        most: maximum size in bytes.

    Raises:
        DamagedError: the file is missing, or does not hold such an object.
        UnreadableError: the file cannot be read.
    """
    text = read_text(path, what, most)
    try:
        return checked(parse_json(text), kind)
    except ValueError as error:
        raise DamagedError(f"{path}: not readable as {what}: {reason(error)}") from None


def read_toml(path: Path, what: str, most: int = MEGABYTE) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        DamagedError: the file is missing, or not TOML.
        UnreadableError: the file cannot be read.
    """
    text = read_text(path, what, most)
    try:
        values = tomllib.loads(text)
        _check_depth(values)
        return values
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as {what}: {reason(error)}") from None


def read_json_lines(path: Path, what: str, kind: type[T]) -> list[T | None]:
    """The objects of a JSON Lines file, None for each damaged line; an empty list if there is no file.

    A last line without a newline is ignored: a crash cut it short.

    Args:
        path: path of the file.
        what: the file's role, for error messages.
        kind: schema of each object: a `typing_extensions.TypedDict` or a pydantic model.

    Raises:
        UnreadableError: the file cannot be read, is not a regular file, or is larger than 1 GB, or a line than 16 MB.
    """
    if not os.path.lexists(path):
        return []
    found: list[T | None] = []
    for line in _whole_lines(path, what):
        try:
            found.append(checked(parse_json(line.decode("utf-8-sig")), kind))
        except ValueError:
            found.append(None)
    return found


def _whole_lines(path: Path, what: str) -> Iterator[bytes]:
    total = 0
    try:
        with open_regular(path, what) as file:
            while line := file.readline(MOST_LINE):
                total += len(line)
                if total > MOST_LINES or (len(line) == MOST_LINE and not line.endswith(b"\n")):
                    raise DamagedError(
                        f"{path}: not readable as {what}: larger than {MOST_LINES // MEGABYTE} MB, or a line is"
                    )
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise UnreadableError(f"{path}: not readable as {what}: {reason(error)}") from None


def parse_json(text: str) -> Any:
    """Parse JSON within limits: numbers must be finite, and nesting no deeper than `MOST_DEPTH`.

    Raises:
        ValueError: the text is not JSON, or exceeds a limit.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_depth(value)
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{shorten(digits, 40)} is not a finite number")
    return value


def _check_depth(value: Any) -> None:
    """Make sure that nothing is nested deeper than `MOST_DEPTH`: later code may be recursive."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError("nested too deep")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def checked(value: Any, kind: type[T]) -> T:
    """Check a parsed value against a schema. Types are strict: neither `"1"` nor `true` is a number.

    Raises:
        ValueError: the value does not match; the message names the field.
    """
    try:
        found: T = _adapter(cast(Any, kind)).validate_python(value, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{shorten(where)}: {shorten(message, 200)}" if where else "it does not hold a JSON object"
        ) from None
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file's content, in hexadecimal.

    Raises:
        DamagedError: the file is missing, or not a regular file.
        UnreadableError: the file cannot be read.
    """
    try:
        with open_regular(path, "a file") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {reason(error)}") from None
