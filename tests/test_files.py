"""A file is there whole or not at all."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from glassgpt import files, locks


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


def test_threads_that_write_one_file_leave_one_of_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    versions = [f"{n}" * 10_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: files.write_text(path, version), versions * 5))
    assert path.read_text(encoding="utf-8") in versions
    assert names(tmp_path) == ["file.txt"]


CALLS = [(os, "fsync"), (os, "rename"), (os, "replace"), (os, "mkdir"), (os, "open"), (Path, "rename"), (Path, "mkdir")]


@pytest.mark.parametrize(("owner", "name"), CALLS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("number", range(4))
def test_a_folder_that_cannot_be_replaced_is_still_there(
    owner: Any, name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call fails, whichever time it is called: the old folder or the whole new one, and nothing beside."""
    folder, original, calls = tmp_path / "folder", getattr(owner, name), count()
    with files.creating_folder(folder) as temporary:
        (temporary / "old.txt").touch()

    def fail(*args: Any, **named: Any) -> Any:
        if next(calls) == number:
            raise OSError(5, "Input/output error")
        return original(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with suppress(OSError), files.creating_folder(folder) as temporary:
            (temporary / "new.txt").touch()
    assert names(tmp_path) == ["folder"]
    assert names(folder) in (["old.txt"], ["new.txt"])


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_fsync_is_named_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.warns(UserWarning, match="does not confirm writes") as said:
        for _ in range(3):
            files.write_text(tmp_path / "file.txt", "text")
            with files.creating_folder(tmp_path / "folder") as temporary:
                (temporary / "inner.txt").touch()
    assert len({str(warning.message) for warning in said}) == len(said)
    assert names(tmp_path) == ["file.txt", "folder"]


def test_a_full_disk_is_no_missing_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "file.txt", "text")
    assert names(tmp_path) == []


def test_a_file_system_without_locks_is_named_and_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", lambda *_, **__: refuse())
    with pytest.warns(UserWarning, match="no locks"), locks.holding(tmp_path / ".lock"):
        (tmp_path / "done").touch()
    assert names(tmp_path) == ["done"]


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120)
    files.write_text(path, "text")
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="links take rights there")
def test_removing_a_link_to_a_folder_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    files.remove_folder(tmp_path / "link")
    assert names(tmp_path) == ["real"]


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with files.having_folder(tmp_path / "there" / "new" / "deep"):
        pass
    assert names(tmp_path / "there") == []


@pytest.mark.skipif(os.name == "nt", reason="what a killed process left stays there")
def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    """And what a running one, or one of another machine, is writing stays."""
    script = "import os, sys; from pathlib import Path; from glassgpt.files import temporary_name as name\n"
    script += "name(Path(sys.argv[1])).touch(); name(Path(sys.argv[2])).mkdir(); os.kill(os.getpid(), 9)"
    file, folder = tmp_path / "a[b].txt", tmp_path / "folder"
    subprocess.run([sys.executable, "-c", script, file, folder], check=False)
    assert len(names(tmp_path)) == 2
    theirs = tmp_path / f".a[b].txt.{2**22 + 1}-00000000-0.tmp"
    mine = files.temporary_name(file)
    for path in (theirs, mine):
        path.touch()
    files.write_text(file, "text")
    with files.creating_folder(folder):
        pass
    assert names(tmp_path) == sorted([theirs.name, mine.name, file.name, folder.name])
