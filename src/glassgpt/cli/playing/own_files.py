"""Files that a session writes again and again, and never over anything else."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from glassgpt.errors import UserError, reason, shorten
from glassgpt.files import write_text
from glassgpt.paths import absolute
from glassgpt.reading import sha256_of


class OwnFiles:
    """Remembers what it wrote: a file may be written again as long as it holds exactly that."""

    def __init__(self) -> None:
        self._hashes: dict[Path, str] = {}

    def write(self, contents: Mapping[Path, str]) -> None:
        """Write files, all or (unless the disk fails) none.

        Raises:
            UserError: one is there and is another's, was changed by someone else, or cannot be written.
        """
        for file in contents:
            self._require_own(file)
        for file, content in contents.items():
            try:
                write_text(file, content)
            except OSError as error:
                raise UserError(f"{shorten(file)}: cannot be written: {reason(error)}") from None
            self.know(file, content)

    def know(self, file: Path, content: str) -> None:
        """Take it that what a file should hold by now is this, and may be written over."""
        self._hashes[absolute(file)] = hashlib.sha256(content.encode("utf-8")).hexdigest()

    def _require_own(self, file: Path) -> None:
        if not os.path.lexists(file):
            return
        known = self._hashes.get(absolute(file))
        if known is None or not file.is_file() or sha256_of(file) != known:
            what = "is there already" if known is None else "was changed by someone else"
            raise UserError(f"{shorten(file)}: {what}: choose another name")
