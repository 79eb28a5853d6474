"""Ways to damage a file: bytes, JSON, TOML, tensors, and what stands at its place."""

import json
import os
import random
import re
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from fuzzing_checks import MARKER

RAW = {  # spelled in JSON and TOML as they are, which no writer would do
    "@huge@": "9" * 400,
    "@float@": "1e400",
    "@nan@": "NaN",
    "@inf@": "-Infinity",
    "@deep@": "[" * 3000 + "]" * 3000,
    "@long@": '"' + "x" * 100_000 + '"',
    "@surrogate@": '"\\ud800"',
}
RAW_TOML = {
    **RAW,
    "@nan@": "nan",
    "@inf@": "-inf",
    "@surrogate@": '"\\u0000"',
    "@hex@": "0x" + "f" * 5000,
    "@date@": "1979-05-27T07:32:00Z",
}
VALUES: list[Any] = [
    *(None, True, False, "", "x", MARKER, "[/v]", 0, -1, 1, 2.5, 10**9, 2**31, 2**63, -(2**64), 10**25, 1e-320, 1e300),
    *(
        [],
        [[]],
        {},
        {"a": 1},
        [1, "x"],
        "../../x",
        "~/x",
        "~nobody/x",
        "a\nb",
        "\x00",
        "é" * 300,
        "cpu",
        "cuda:" + "9" * 20,
    ),
]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in JSON data."""
    found = [at] if at else []
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = list(enumerate(value))[:50]  # type: ignore[assignment]
    else:
        return found
    return found + [place for key, item in inner for place in places(item, (*at, key))]


def change(rng: random.Random, value: Any, raw: dict[str, str]) -> tuple[Any, str]:  # noqa: PLR0911
    """JSON data with a field of another value, removed, renamed or added, and what was done."""
    value = json.loads(json.dumps(value, default=str))
    if not isinstance(value, (dict, list)) or not (all_places := places(value)):
        new = rng.choice([*VALUES, *raw])
        return new, f"all of it is {new!r:.60}"
    # shallow ones as often as deep ones, of which there are many more
    depth = rng.choice(sorted({len(place) for place in all_places}))
    *path, last = rng.choice([place for place in all_places if len(place) == depth])
    owner = value
    for key in path:
        owner = owner[key]
    name, how = ".".join(map(str, (*path, last))), rng.random()
    if how < 0.15:
        del owner[last]
        return value, f"{name} removed"
    if how < 0.2 and isinstance(owner, dict):
        owner["unknown"] = owner[last]
        return value, f"{name} added once more as unknown"
    if how < 0.25 and isinstance(owner[last], list):
        owner[last] = owner[last] * 2
        return value, f"{name} doubled"
    if how < 0.3 and isinstance(owner[last], str) and owner[last]:
        text = owner[last]
        place = rng.randrange(len(text))
        owner[last] = text[:place] + rng.choice([MARKER, "é", "\x00", "0", " ", "\ud800"]) + text[place + 1 :]
        return value, f"{name}: another character at {place}"
    if how < 0.4 and type(owner[last]) in (int, float):
        owner[last] = rng.choice(
            [owner[last] + 1, -owner[last], owner[last] * 1000, float(owner[last]), str(owner[last])]
        )
        return value, f"{name} = {owner[last]!r}"
    owner[last] = rng.choice([*VALUES, *raw])
    return value, f"{name} = {owner[last]!r:.60}"


def to_json(value: Any) -> bytes:
    """JSON, with the spellings of `RAW` put in."""
    text = json.dumps(value)
    for name, spelling in RAW.items():
        text = text.replace(json.dumps(name), spelling)
    return text.encode("utf-8")


def damage_json(rng: random.Random, path: Path) -> str:
    """Change a JSON file."""
    try:
        value, what = change(rng, json.loads(path.read_bytes()), RAW)
    except (ValueError, RecursionError):
        return damage_bytes(rng, path)
    path.write_bytes(to_json(value))
    return what


def damage_lines(rng: random.Random, path: Path) -> str:
    """Change a file of JSON lines."""
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        return damage_bytes(rng, path)
    number = rng.randrange(len(lines))
    how = rng.choice(["change", "change", "change", "remove", "double", "swap", "cut", "text", "all"])
    if how == "change":
        try:
            value, what = change(rng, json.loads(lines[number]), RAW)
            lines[number] = to_json(value)
        except ValueError:
            what = "nothing"
    elif how == "all":
        field = rng.choice(sorted(json.loads(lines[0]) or ["x"]))
        new = rng.choice([*VALUES, *RAW])
        lines = [to_json({**json.loads(line), field: new}) for line in lines]
        what = f"{field} = {new!r:.60}"
    elif how == "text":
        lines[number] = rng.choice([b"", b"5", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b" ", b"{}", b'"x"'])
        what = f"{lines[number][:20]!r}"
    elif how == "cut":
        lines[number] = lines[number][: rng.randrange(len(lines[number]) + 1)]
        what = "cut"
    else:
        other = rng.randrange(len(lines))
        what = how
        if how == "remove":
            del lines[number]
        elif how == "double":
            lines.insert(other, lines[number])
        else:
            lines[number], lines[other] = lines[other], lines[number]
    path.write_bytes(b"\n".join([*lines, b""]))
    return f"line {number + 1}: {what}"


def damage_toml(rng: random.Random, path: Path) -> str:
    """Change a TOML file."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.2:
        more = rng.choice([
            "x = " + "[" * 3000 + "]" * 3000, ".".join("a" * 1500) + " = 1", "[" + ".".join("b" * 1500) + "]",
            "[model]", "[[model]]", "training.max_steps = 1", "x = {" * 500 + "}" * 500, "= 1", 'x = """', "\x00",
            "[data]\n" * 3,
        ])  # fmt: skip
        at = rng.choice(["", text])
        path.write_text(f"{more}\n{text}" if not at else f"{text}\n{more}\n", encoding="utf-8")
        return f"{more[:40]!r} added"
    try:
        value, what = change(rng, tomllib.loads(text), RAW_TOML)
        new = tomli_w.dumps(_without_none(value))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return damage_bytes(rng, path)
    for name, spelling in RAW_TOML.items():
        new = new.replace(f'"{name}"', spelling)
    path.write_text(new, encoding="utf-8", errors="surrogatepass")
    return what


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value if item is not None] if isinstance(value, list) else value


def damage_tensors(rng: random.Random, path: Path) -> str:
    """Change the header or the numbers of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.3:
        kind = rng.choice([float("nan"), float("inf"), 3e38, 0.0])
        numbers = struct.pack("<f", kind) * (len(numbers) // 4)
        what = f"all numbers are {kind}"
    elif rng.random() < 0.2:
        new_length = rng.choice([0, 2**63, length + 1, 10**9, 2])
        path.write_bytes(struct.pack("<Q", new_length) + data[8:])
        return f"the header's length is {new_length}"
    else:
        header, what = change(rng, header, RAW)
    text = to_json(header)
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return what


def damage_bytes(rng: random.Random, path: Path) -> str:
    """Change the bytes of a file, whatever is in it."""
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    how = rng.choice(list(_BYTES))
    path.write_bytes(_BYTES[how](rng, data, at))
    return f"{how} at {at} of {len(data)}"


_BYTES: dict[str, Callable[[random.Random, bytes, int], bytes]] = {
    "cut": lambda rng, data, at: data[:at],
    "a bit turned": lambda rng, data, at: (
        data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if at < len(data) else data
    ),
    "bytes inserted": lambda rng, data, at: data[:at] + rng.randbytes(rng.randrange(1, 30)) + data[at:],
    "zeros": lambda rng, data, at: data[:at] + bytes(rng.choice([1, 100, 100_000])) + data[at:],
    "removed": lambda rng, data, at: data[:at] + data[at + rng.randrange(1, 100) :],
    "doubled": lambda rng, data, at: data + data[at:],
    "emptied": lambda rng, data, at: b"",
    "white space alone": lambda rng, data, at: b" \n\t\r\n",
    "a byte order mark": lambda rng, data, at: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda rng, data, at: data.decode("utf-8", "replace").encode(
        rng.choice(["utf-16", "utf-16-le", "utf-16-be"])
    ),
    "UTF-32": lambda rng, data, at: data.decode("utf-8", "replace").encode("utf-32"),
    "Latin-1": lambda rng, data, at: data.decode("utf-8", "replace").encode("latin-1", "replace") + b"\xe9",
    "lines of Windows": lambda rng, data, at: data.replace(b"\n", b"\r\n"),
    "a surrogate": lambda rng, data, at: data[:at] + b"\xed\xa0\x80" + data[at:],
    "control characters": lambda rng, data, at: data[:at] + MARKER.encode() + data[at:],
    "one long line": lambda rng, data, at: data.replace(b"\n", b" ") * 200,
    "one character": lambda rng, data, at: b"a",
    "a number changed": lambda rng, data, at: re.sub(
        rb"\d+", rng.choice([b"0", b"-1", b"9" * 30, b"1e999"]), data, count=1
    ),
}


def replace_file(rng: random.Random, path: Path) -> str:
    """Put something else where the file was."""
    how = rng.choice(list(_REPLACED))
    kept = path.with_name(path.name + "-kept")
    path.rename(kept)
    _REPLACED[how](path, kept)
    if kept.exists() and not (path.is_symlink() and path.exists()):
        kept.unlink() if kept.is_file() else None
    return f"it is now {how}"


def _large(path: Path, kept: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


_REPLACED: dict[str, Callable[[Path, Path], Any]] = {
    "gone": lambda path, kept: None,
    "a folder": lambda path, kept: path.mkdir(),
    "a full folder": lambda path, kept: ((path / "x").mkdir(parents=True), (path / "y").write_text("y")),
    "a pipe that nothing comes through": lambda path, kept: os.mkfifo(path),
    "a link to itself": lambda path, kept: path.symlink_to(path.name),
    "a link to nothing": lambda path, kept: path.symlink_to("nothing"),
    "a link to /dev/zero": lambda path, kept: path.symlink_to("/dev/zero"),
    "a link to /dev/null": lambda path, kept: path.symlink_to("/dev/null"),
    "a link to a file that cannot be read": lambda path, kept: path.symlink_to("/proc/self/mem"),
    "a link to a folder": lambda path, kept: path.symlink_to("."),
    "a link to where it was moved": lambda path, kept: path.symlink_to(kept.name),
    "three gigabytes of zeros": _large,
}


def damage(rng: random.Random, path: Path) -> str:
    """Damage a file in a way that suits it; return what was done."""
    how = rng.random()
    if how < 0.2:
        return replace_file(rng, path)
    if how < 0.4:
        return damage_bytes(rng, path)
    by_suffix = {".json": damage_json, ".jsonl": damage_lines, ".toml": damage_toml, ".safetensors": damage_tensors}
    return by_suffix.get(path.suffix, damage_bytes)(rng, path)
