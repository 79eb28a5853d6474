"""Documents in the rows of a parquet file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glassgpt.data.row_limits import MOST_ROW, NAME_IT, too_large
from glassgpt.data.unpacking import CHUNK
from glassgpt.errors import UserError, reason, suggest
from glassgpt.imports import load
from glassgpt.reading import open_regular

_ROWS = 256  # of a batch


def parquet_texts(path: Path, name: str, text_field: str) -> Iterator[list[str]]:
    """The documents of a parquet file, a batch at a time.

    Args:
        path: of the file.
        name: of the file, for messages.
        text_field: the column with the text.

    Raises:
        UserError: it cannot be read, has no such column, or a row is larger than `MOST_ROW`.
    """
    purpose = f"{name}: reading parquet"
    pyarrow, parquet = load("pyarrow", purpose, "data"), load("pyarrow.parquet", purpose, "data")
    open_regular(path, "parquet").close()  # pyarrow would wait for a pipe
    number = 0
    try:
        with parquet.ParquetFile(path, buffer_size=CHUNK) as file:
            _check_column(file, name, text_field, pyarrow.types)
            for group in range(file.num_row_groups):
                facts = _column(file, group, text_field)
                rows = _rows_at_once(parquet, path, group, facts, text_field)
                if not rows:
                    raise too_large(f"{name}: rows {number + 1:,} to {number + facts.num_values:,}")
                for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[text_field]):
                    yield _texts(batch.column(0), name, number)
                    number += batch.num_rows
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pyarrow's own are of many kinds
        raise UserError(f"{name}: not readable as parquet: {reason(error)}") from None


def _check_column(file: Any, name: str, text_field: str, types: Any) -> None:
    """Make sure that a column holds text.

    Raises:
        UserError: it does not, or there is none of this name.
    """
    names = file.schema_arrow.names
    if text_field not in names:
        raise UserError(f"{name}: no column {text_field!r} ({suggest(text_field, names)}): {NAME_IT}")
    kind = file.schema_arrow.field(text_field).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not any(is_text(kind) for is_text in (types.is_string, types.is_large_string, types.is_string_view)):
        raise UserError(f"{name}: column {text_field!r} holds {kind}, not text: {NAME_IT}")


def _column(file: Any, group: int, text_field: str) -> Any:
    """What the file says of a column in a row group: how many values there are, and how many bytes unpacked."""
    facts = file.metadata.row_group(group)
    return next(found for n in range(facts.num_columns) if (found := facts.column(n)).path_in_schema == text_field)


def _rows_at_once(parquet: Any, path: Path, group: int, facts: Any, text_field: str) -> int:
    """How many rows of a group are at most about `MOST_ROW` of text; 0: not even one.

    A long text that many rows have may be in the file once, in a dictionary, so that little is known from sizes.
    """
    size = int(facts.total_uncompressed_size)
    largest: int = size // max(1, int(facts.num_values))
    if facts.has_dictionary_page and size > MOST_ROW // _ROWS:
        with parquet.ParquetFile(path, buffer_size=CHUNK, read_dictionary=[text_field]) as file:
            batch = next(file.iter_batches(batch_size=1, row_groups=[group], columns=[text_field]))
            lengths = load("pyarrow.compute", "reading parquet").binary_length(batch.column(0).dictionary)
            largest = max(largest, *lengths.drop_null().to_pylist(), 0)
    return min(_ROWS, MOST_ROW // max(1, largest))


def _texts(column: Any, name: str, number: int) -> list[str]:
    """The texts of a batch that comes after `number` rows; those that are missing or empty are left out."""
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:
        for place, value in enumerate(column, number + 1):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise UserError(f"{name}: row {place:,}: not UTF-8 (at byte {error.start:,} of the text)") from None
        raise
    if max(map(len, filter(None, texts)), default=0) > MOST_ROW:
        place = next(n for n, text in enumerate(texts) if text and len(text) > MOST_ROW)
        raise too_large(f"{name}: row {number + place + 1:,}")
    return [text for text in texts if text]
