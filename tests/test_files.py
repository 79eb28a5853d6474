"""A file is there whole or not at all."""

import os
from pathlib import Path

import pytest

from glassgpt import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with files.replacing(path) as temporary:
        temporary.write_text("half of", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        temporary.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new"
    assert names(tmp_path) == ["file.txt"]


def test_after_an_error_everything_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(MemoryError), files.replacing(path) as temporary:
        temporary.write_text("half of", encoding="utf-8")
        raise MemoryError
    with pytest.raises(MemoryError), files.creating_folder(tmp_path / "folder") as temporary:
        (temporary / "inner.txt").write_text("half of", encoding="utf-8")
        raise MemoryError
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    """The new file takes the old one's name; it is not written into it."""
    path = tmp_path / "file.txt"
    files.write_text(path, "old" * 1000)
    with path.open(encoding="utf-8") as reader:
        assert reader.read(3) == "old"
        files.write_text(path, "new" * 1000)
        assert reader.read() == "old" * 999


def test_content_reaches_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("fsync") or fsync(handle))
    monkeypatch.setattr(Path, "replace", lambda path, target: order.append("rename") or replace(path, target))
    files.write_text(tmp_path / "file.txt", "text")
    assert order[:2] == ["fsync", "rename"]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with files.creating_folder(tmp_path / "folder") as temporary:
            (temporary / f"{content}.txt").touch()
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["new.txt"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "inner" / ".step-1.77.tmp").mkdir(parents=True)
    (tmp_path / ".model.safetensors.77.tmp").touch()
    (tmp_path / "notes.tmp").touch()
    (tmp_path / ".tmpx1Yz9Q").touch()  # as safetensors calls it while it writes
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "notes.tmp"]
