"""What must be right before a command draws."""

import os
from pathlib import Path

from glassgpt import imports
from glassgpt.errors import UserError


def check_drawing(out: Path) -> None:
    """Make sure that a picture can be drawn and written, before any work is done.

    Raises:
        UserError: its name or its folder is wrong, or matplotlib cannot be loaded.
    """
    from glassgpt.training.drawing import check_picture

    check_picture(out)
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise UserError(f"{out}: cannot be written: choose another place with --out")
    imports.load("matplotlib.figure", "drawing")
