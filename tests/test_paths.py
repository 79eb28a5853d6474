"""A path means the same wherever it is read, and a name is only what a name can be."""

import os
from glob import glob
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassgpt.errors import UserError
from glassgpt.imports import load
from glassgpt.paths import absolute, absolute_pattern, expand, require_text

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(NAMES, st.sampled_from(["", "~", "~/", "~no such user/", "./", "[a]/", "~$"]))
def test_expanding_never_fails_on_a_name(name: str, before: str) -> None:
    found = expand(before + name)
    if not before.startswith("~") and not name.startswith("~"):
        assert found == Path(before + name)
    assert absolute(before + name).is_absolute()


def test_a_tilde_is_the_home_folder_and_else_a_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert expand("~/runs/a") == Path("/home/me/runs/a")
    assert expand("~$memo.txt") == Path("~$memo.txt")  # as Office names its own
    assert expand("a~b") == Path("a~b")


def test_an_absolute_path_keeps_the_name_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "9f86").touch()
    (tmp_path / "train.jsonl").symlink_to("blobs/9f86")
    monkeypatch.chdir(tmp_path)
    assert absolute("train.jsonl").name == "train.jsonl"


@pytest.mark.skipif(os.name == "nt", reason="names that other systems have")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text("ab[]*?!-{}", min_size=1, max_size=8))
def test_a_pattern_means_the_same_from_another_folder(tmp_path: Path, name: str) -> None:
    """Whatever the working folder is called: its own name is no pattern."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "one.txt").touch()
    before = Path.cwd()
    os.chdir(folder)
    try:
        pattern = absolute_pattern("*.txt")
    finally:
        os.chdir(before)
    assert glob(pattern) == [str(folder / "one.txt")]  # noqa: PTH207 - as it is used


@pytest.mark.skipif(os.name == "nt", reason="a working folder cannot be removed there")
def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone, before = tmp_path / "gone", Path.cwd()
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        with pytest.raises(UserError, match="working folder has been removed"):
            absolute("text.txt")
    finally:
        os.chdir(before)


def test_names_that_no_file_or_recipe_can_have() -> None:
    for name in ("a\0b", ""):
        with pytest.raises(UserError):
            expand(name)
    with pytest.raises(UserError, match=r"big\\xe9\.txt: a name that is not UTF-8"):
        require_text(os.fsdecode(b"big\xe9.txt"))
    require_text("größe.txt")


def test_a_library_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, content, said in (
        ("broken_one", "raise ValueError('no such backend\\nmore')", "broken_one cannot be loaded: no such backend"),
        ("broken_two", "import no_such_package", "broken_two cannot be loaded: No module named 'no_such_package'"),
        ("broken_three", "raise OSError(2, 'lib.so: cannot open')", "broken_three cannot be loaded: lib.so"),
    ):
        (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=rf"^drawing: {said}") as raised:
            load(name, "drawing")
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r'drawing: takes the package no_such: pip install "glassgpt\[data\]"'):
        load("no_such.inner", "drawing", "data")
    assert load("json", "reading").loads("1") == 1
