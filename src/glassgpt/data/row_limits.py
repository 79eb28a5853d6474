"""How large a row may be, and what is said of one that is larger or has no text."""

from glassgpt.errors import UserError

MOST_ROW = 2**26  # characters: a row is held in memory, and what JSON makes of it may take thirty times as much
NAME_IT = "say which field holds the text (--text-field, or --data.text-field with train)"


def too_large(place: str) -> UserError:
    """The error about a row, a line of JSON or a text in parquet, of more than `MOST_ROW` characters."""
    return UserError(
        f"{place}: longer than {MOST_ROW // 2**20} MB, the most for one row: split it, or give its text as a file of "
        "its own, which may be of any size"
    )
