"""Where text comes from: named corpora, files, folders, patterns of names, standard input."""

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from glassgpt.data.corpora import NAMES, PYTHON_REFERENCE, corpus_file
from glassgpt.data.folders import TEXT_SUFFIXES, is_run_folder, matching_files, text_files
from glassgpt.data.rows import ROW_SUFFIXES
from glassgpt.data.unpacking import PACKED_SUFFIXES, bare_suffix
from glassgpt.errors import DamagedError, UserError, printable, reason, shorten, suggest
from glassgpt.paths import absolute, absolute_pattern, expand, require_text

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """One file, or the text that every Python carries.

    Attributes:
        path: None for the Python reference.
        name: for messages.
        found: found in a folder or by a pattern, so it is left out if it is empty.
    """

    path: Path | None
    name: str
    found: bool = False

    @property
    def plain_size(self) -> int | None:
        """Its bytes; None if it is packed."""
        if self.path is None or not self.path.is_file() or self.path.suffix.lower() in (*PACKED_SUFFIXES, ".parquet"):
            return None
        return self.path.stat().st_size


def find_sources(names: Sequence[str], stdin: Path | None = None) -> list[Source]:
    """The files that names stand for, each once.

    Args:
        names: corpora, files, folders (all text files in them), patterns such as `texts/*.txt`, or -.
        stdin: the file that holds what came from standard input.

    Raises:
        UserError: there is no such thing, or it is no file, folder or pattern.
    """
    found: dict[Path | None, Source] = {}
    for name in names:
        require_text(name)
        try:
            sources = _find(name, stdin)
        except OSError as error:
            raise UserError(f"{shorten(name)}: cannot be read: {reason(error)}") from None
        for source in sources:
            # A link and what it leads to are one file; the name that says what the file holds is kept.
            same = source.path and source.path.resolve()
            if same not in found or (_says_its_kind(source) and not _says_its_kind(found[same])):
                found[same] = source
    return list(found.values())


def absolute_sources(names: Sequence[str]) -> list[str]:
    """Sources that mean the same from any working folder; links keep their own names, and so what these say."""
    return [name if name in NAMES or name == STDIN else _absolute(name) for name in names]


def _absolute(name: str) -> str:
    if has_magic(name) and not expand(name).exists():
        return absolute_pattern(name)
    return str(absolute(name))


def _says_its_kind(source: Source) -> bool:
    return source.path is not None and bare_suffix(source.path) in (*TEXT_SUFFIXES, *ROW_SUFFIXES)


def _find(name: str, stdin: Path | None) -> list[Source]:
    if name == STDIN:
        assert stdin is not None, "whoever allows - reads standard input first"
        return [Source(stdin, "standard input")]
    path = expand(name)
    if name in NAMES:
        if path.exists():
            what = "folder" if path.is_dir() else "file"
            print(f"{name}: the corpus of this name, not the {what} here: for that, give ./{name}", file=sys.stderr)
        if name == PYTHON_REFERENCE:
            return [Source(None, name)]
        file = corpus_file(name)
        return [Source(file, str(file))]
    if path.is_dir():
        return _found_in(path)
    if path.is_file():
        if path.suffix.lower() == ".json":
            print(f"{printable(name)}: {_JSON}", file=sys.stderr)
        return [Source(path, name)]
    if path.exists():
        raise UserError(f"{name}: {_no_file(path)}")
    if has_magic(name):
        files = matching_files(str(path))
        if not files:
            raise DamagedError(f"{name}: no file has a name like this")
        return [Source(file, str(file), found=True) for file in files]
    if path.is_symlink():
        raise DamagedError(f"{name}: a link to {path.readlink()}, which is not there")
    hint = f", and no corpus of this name ({suggest(name, NAMES)})" if path.name == name else ""
    raise DamagedError(f"{shorten(name, 300)}: no such file or folder{hint}")


def _found_in(folder: Path) -> list[Source]:
    if is_run_folder(folder):
        raise UserError(f"{folder}: a run, not a text: its own text is in its recipe.toml (data.source)")
    return [Source(file, str(file), found=True) for file in text_files(folder)]


def _no_file(path: Path) -> str:
    if stat.S_ISFIFO(path.stat().st_mode):
        return "a pipe, which cannot be read twice, as a file can: pipe it in, and name - as the source"
    return "a device, not a file or a folder"


_JSON = (
    "read as plain text, brackets and field names included; if it holds rows with a text each, make lines of them: "
    "jq -c '.[]' A.json > A.jsonl"
)
