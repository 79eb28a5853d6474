"""Reading back what was written: regular files of bounded size, held against a schema before anything uses them."""

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

from glassgpt.errors import DamagedError, UserError, reason, shorten

MEGABYTE = 2**20
MOST_BYTES = 256 * MEGABYTE  # of a file that is read as a whole: GPT-2's tokenizer takes one
MOST_LINE = 16 * MEGABYTE  # of a line
MOST_LINES = 2**30  # bytes of a file that is read line by line
MOST_DEPTH = 64  # of lists and objects in each other
T = TypeVar("T")


def open_regular(path: Path, what: str) -> BufferedReader:
    """Open a regular file to read its bytes.

    A pipe would wait for a writer, and a device such as /dev/zero would never end.

    Args:
        path: of the file; a link leads to what it names.
        what: the file's role, for the message, such as "a recipe".

    Raises:
        DamagedError: there is no such file.
        UserError: it cannot be read, or is no regular file.
    """
    try:
        # Opening a pipe would wait for whoever writes into it. (Windows has no such flag, and no such pipes.)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(f"{path}: no such file (expected {what})") from None
    except (OSError, ValueError) as error:
        if path.is_dir():
            raise DamagedError(f"{path}: not readable as {what}: a folder, not a file") from None
        raise UserError(f"{path}: not readable as {what}: {reason(error)}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise DamagedError(f"{path}: not readable as {what}: {kind}, not a file")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, what: str, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        DamagedError: there is no such file, or it is larger.
        UserError: it cannot be read.
    """
    try:
        with open_regular(path, what) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{path}: not readable as {what}: {reason(error)}") from None
    if len(data) > most:
        raise DamagedError(f"{path}: not readable as {what}: larger than {most // MEGABYTE} MB")
    return data


def read_text(path: Path, what: str, most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        DamagedError: there is no such file, it is larger, or not UTF-8.
        UserError: it cannot be read.
    """
    try:
        return read_bytes(path, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: not readable as {what}: not UTF-8 (at byte {error.start:,})") from None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read any JSON object: `read_json_as` without a schema."""
    return read_json_as(path, what, dict[str, Any])


def read_json_as(path: Path, what: str, kind: type[T], most: int = MOST_BYTES) -> T:
    """Read a JSON object that has a schema.

    Args:
        path: of the file.
        what: its role, for messages.
        kind: what the object must be: a `typing_extensions.TypedDict` or a pydantic model.
        most: bytes.

    Raises:
        DamagedError: the file is missing, or does not hold such an object.
        UserError: it cannot be read.
    """
    text = read_text(path, what, most)
    try:
        return checked(parse_json(text), kind)
    except ValueError as error:
        raise DamagedError(f"{path}: not readable as {what}: {reason(error)}") from None


def read_toml(path: Path, what: str, most: int = MEGABYTE) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        DamagedError: the file is missing, or is not TOML.
        UserError: it cannot be read.
    """
    text = read_text(path, what, most)
    try:
        values = tomllib.loads(text)
        _check_depth(values)
        return values
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as {what}: {reason(error)}") from None


def read_json_lines(path: Path, what: str, kind: type[T]) -> list[T | None]:
    """The objects in a file of one a line: None for a damaged line, no line at all if there is no file.

    A last line without its end is omitted: a crash cut it short.

    Args:
        path: of the file.
        what: its role, for messages.
        kind: what each object must be: a `typing_extensions.TypedDict` or a pydantic model.

    Raises:
        UserError: the file cannot be read, is no regular file, or is larger than a gigabyte.
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
        raise UserError(f"{path}: not readable as {what}: {reason(error)}") from None


def parse_json(text: str) -> Any:
    """A JSON value, within limits: numbers are finite, nothing is nested deeper than `MOST_DEPTH`.

    Raises:
        ValueError: it is no JSON, or beyond a limit.
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
    """Make sure that nothing is nested deeper than `MOST_DEPTH`: what walks it later may call itself."""
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
    """A parsed value, held against a schema. Types are strict: `"1"` is no number, and `true` is none either.

    Raises:
        ValueError: it is not such a value; the message names the field.
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
        DamagedError: it is missing, or no regular file.
        UserError: it cannot be read.
    """
    try:
        with open_regular(path, "a file") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None
