"""What is read back is a regular file, of bounded size, and what it claims to be; anything else is one line."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from glassgpt import reading
from glassgpt.errors import DamagedError, UserError, printable, reason, shorten, show


class Row(TypedDict):
    """A schema to read by."""

    step: int
    loss: float | None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANYWHERE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@ANYWHERE
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    for read in (
        lambda: reading.read_json(path, "a file"),
        lambda: reading.read_json_as(path, "a file", Row),
        lambda: reading.read_toml(path, "a file"),
        lambda: reading.read_text(path, "a file"),
    ):
        try:
            read()
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 500 + len(str(path))
    rows = reading.read_json_lines(path, "rows", Row)
    assert len(rows) == data.count(b"\n")


@ANYWHERE
@given(st.fixed_dictionaries({"step": JSON, "loss": JSON}))
def test_a_schema_lets_through_what_fits_and_nothing_else(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps(row), encoding="utf-8")
    fits = type(row["step"]) is int and (row["loss"] is None or type(row["loss"]) in (int, float))
    if fits:
        assert reading.read_json_as(path, "a row", Row) == row
    else:
        with pytest.raises(DamagedError, match=r"step|loss"):
            reading.read_json_as(path, "a row", Row)


@pytest.mark.parametrize("text", ["1e400", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 5000])
def test_numbers_are_finite_and_of_bounded_length(text: str) -> None:
    with pytest.raises(ValueError, match=r"not JSON|finite|digits"):
        reading.parse_json(f'{{"value": {text}}}')


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [reading.MOST_DEPTH + 1, 3_000, 200_000])
def test_deep_nesting_is_refused(tmp_path: Path, opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    value = opening * depth + "1" + closing * depth
    with pytest.raises(ValueError, match="nested too deep"):
        reading.parse_json(f'{{"a": {value}}}')
    (tmp_path / "recipe.toml").write_text(f"a = {value.replace(':', '=')}", encoding="utf-8")
    with pytest.raises(DamagedError, match=r"nested too deep|Invalid|larger than"):
        reading.read_toml(tmp_path / "recipe.toml", "a recipe")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'\xef\xbb\xbf{"step": 1, "loss": 2}\n')
    assert reading.read_json(path, "a file") == {"step": 1, "loss": 2}
    assert reading.read_json_lines(path, "rows", Row) == [{"step": 1, "loss": 2}]


def test_a_larger_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**40)  # a file of holes takes no room on the disk
    with pytest.raises(DamagedError, match="larger than"):
        reading.read_bytes(path, "a file", most=2**20)
    with pytest.raises(DamagedError, match="larger than"):
        reading.read_json_lines(path, "rows", Row)


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are no files there")
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("pipe", "zero", "folder", "nowhere"):
        for read in (reading.read_json, reading.read_toml, reading.read_text, reading.read_bytes):
            with pytest.raises(DamagedError, match=rf"{name}: "):
                read(tmp_path / name, "a file")
        with pytest.raises(DamagedError):
            reading.sha256_of(tmp_path / name)
        with pytest.raises(DamagedError):
            reading.read_json_lines(tmp_path / name, "rows", Row)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=stat.S_IWUSR)
    with pytest.raises(UserError, match="Permission denied") as raised:
        reading.read_text(path, "a file")
    assert not isinstance(raised.value, DamagedError)


@given(st.text() | st.integers(min_value=10**4000, max_value=10**5000) | JSON)
def test_values_in_messages_are_short_and_on_one_line(value: object) -> None:
    for text in (show(value), shorten(value), reason(ValueError(str(value)[:300] if isinstance(value, str) else "x"))):
        assert len(text) <= 220
        assert len(text.splitlines()) <= 1


@given(st.text() | st.text(alphabet=st.characters(max_codepoint=0x9F)))
def test_printable_text_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066" for c in shown)
    assert printable(shown) == shown
    shown.encode("utf-8")  # no half of a surrogate pair either


def test_printable_text_keeps_letters_of_all_scripts() -> None:
    for text in ("naïve – “quoted” £", "день за днём", "春の雪\n\tと", "नमस्ते", "می‌خواهم", "👩‍👩‍👧 a\u0301"):
        assert printable(text) == text
    assert printable("\x1b[31mred\x07") == "␛[31mred␇"
