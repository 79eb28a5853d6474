"""A folder with all that can be seen of one model and one text: the page, pictures, and the data behind them."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError
from glassgpt.files import check_no_file, creating_folder, having_folder, is_temporary, remove_folder
from glassgpt.generation.text import prompt_ids
from glassgpt.inspection.capture import as_gpt
from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.page import LIMIT, write_page
from glassgpt.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, DATA, PICTURES = "page.html", "data", "pictures"
MARK = b'<meta name="generator" content="glassgpt inspect">'
OURS = re.compile(
    r"(text|tokens|lens|heads|attention|attention-layer-\d+-head-\d+|embedding|positions|sampling)\.(csv|json|png|svg)"
)
MOST_WEIGHTS = 10_000_000
"""The most attention weights that are written as text: about 70 MB."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What was written.

    Attributes:
        folder: where.
        tokens: how many the text has.
        page_bytes: the page's size.
        files: all of them, as paths in the folder.
        left_out: what was too large, in words.
    """

    folder: Path
    tokens: int
    page_bytes: int
    files: list[Path]
    left_out: list[str]


def inspect_run(run: Run, prompt: str, out: Path, *, crop: bool = False, pictures: bool = True) -> Summary:
    """Look at what a run's model does with a text, and write page, data and pictures.

    Args:
        run: a GPT's.
        prompt: the text, at most a block long.
        out: a folder that is new, empty, or from an earlier time; page, data and pictures are each replaced whole.
        crop: look only at the end of a longer text, instead of refusing it.
        pictures: whether to draw them, too.

    Raises:
        UserError: the text is empty, too long or has unknown characters, the model is no GPT, or the folder holds
            something else.
        OSError: it cannot be written.
    """
    check_out(out)
    as_gpt(run.model)
    ids = prompt_ids(run.tokenizer, prompt, run.block_size, crop=crop)
    title = f"Inside {run.folder.path.resolve().name}"
    return write_report(look(run.model, run.tokenizer, ids, title), out, pictures=pictures)


def check_out(out: Path) -> None:
    """Make sure that nothing is lost by writing there.

    Raises:
        UserError: it is a file, or a folder with something else in it.
    """
    check_no_file(out)
    names = {path.name for path in out.iterdir() if not is_temporary(path)} if out.exists() else set()
    if names and not ({PAGE} <= names <= {PAGE, DATA, PICTURES} and _is_ours(out)):
        raise UserError(f"{out}: holds something else than an earlier inspection: choose another folder with --out")


def _is_ours(out: Path) -> bool:
    """Whether all that is in a folder of that form was written by an earlier inspection: it will be replaced."""
    with (out / PAGE).open("rb") as page:
        is_page = MARK in page.read(2000)
    files = [path for name in (DATA, PICTURES) if (out / name).is_dir() for path in (out / name).iterdir()]
    return is_page and all(OURS.fullmatch(path.name) or is_temporary(path) for path in files)


def write_report(findings: Findings, out: Path, *, pictures: bool = True, limit: int = LIMIT) -> Summary:
    """Write what was found: see `inspect_run`.

    Args:
        findings: from `look`.
        out: the folder.
        pictures: whether to draw them, too.
        limit: the most bytes that the page may have.
    """
    with having_folder(out):
        page = write_page(out / PAGE, findings, limit=limit)  # first: by it, the folder is known for what it is
        left_out = [f"{what}: not on the page" for what in page.left_out]
        with creating_folder(out / DATA) as folder:
            left_out += _write_data(findings, folder)
        if pictures:
            from glassgpt.training.drawing import save_figure

            with creating_folder(out / PICTURES) as folder:
                for name, figure in _figures(findings):
                    for kind in ("png", "svg"):
                        save_figure(figure, folder / f"{name}.{kind}")
        elif (out / PICTURES).exists():
            remove_folder(out / PICTURES)  # those of another text
    folders = [out / DATA, *([out / PICTURES] if pictures else [])]
    written = [out / PAGE, *(file for folder in folders for file in sorted(folder.iterdir()))]
    return Summary(out, len(findings.ids), page.bytes, [file.relative_to(out) for file in written], left_out)


def _figures(findings: Findings) -> Iterator[tuple[str, "Figure"]]:
    """Each picture with its name, one at a time."""
    from glassgpt.inspection import pictures

    labels, vocabulary = findings.labels, findings.vocabulary
    yield "text", pictures.surprise_text(labels, findings.probabilities.surprise.tolist(), len(vocabulary))
    yield "attention", pictures.attention_grid(findings.attention)
    for layer, head, why in _notable(findings):
        name = f"attention-layer-{layer}-head-{head}"
        yield (
            name,
            pictures.attention_map(findings.attention[layer, head], labels, f"layer {layer}, head {head}: {why}"),
        )
    yield "lens", pictures.lens_heatmap(findings.lens, labels, vocabulary)
    yield "embedding", pictures.embedding_plot(findings.embedding, vocabulary, findings.ids)
    if findings.positions is not None:
        yield "positions", pictures.position_plot(findings.positions)
    yield "sampling", pictures.sampling_plot(findings.effects, vocabulary)


def _notable(findings: Findings) -> list[tuple[int, int, str]]:
    """Heads worth a picture of their own: the one that does each of these things most. (layer, head, why)."""
    found: dict[tuple[int, int], list[str]] = {}
    for figure, why in (
        ("previous", "most on the token before"),
        ("first", "most on the first token"),
        ("induction", "most like an induction head"),
        ("entropy", "looks most widely"),
    ):
        known = [(getattr(head, figure), head) for head in findings.heads if getattr(head, figure) is not None]
        if known:
            best = max(known, key=lambda pair: pair[0])[1]
            found.setdefault((best.layer, best.head), []).append(why)
    return [(layer, head, "; ".join(reasons)) for (layer, head), reasons in found.items()]


def _write_data(findings: Findings, folder: Path) -> list[str]:
    """Tables as CSV and JSON, attention and positions as CSV alone; returns what was too large."""
    for name, rows in _tables(findings):
        _write_csv(folder / f"{name}.csv", list(rows[0]) if rows else [], [list(row.values()) for row in rows])
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    if findings.positions is not None:
        names = [f"position_{position}" for position in range(len(findings.ids))]
        _write_csv(folder / "positions.csv", names, [map("{:.4f}".format, row) for row in findings.positions.tolist()])
    L, H, T, _ = findings.attention.shape
    if (number := L * H * T * (T + 1) // 2) > MOST_WEIGHTS:
        return [f"attention.csv: {number:,} weights (from Python: glassgpt.inspection.attention.attention_maps)"]
    _write_csv(
        folder / "attention.csv",
        ["layer", "head", "query", *(f"key_{position}" for position in range(T))],
        (
            [layer, head, query, *map("{:.5g}".format, row[: query + 1])]
            for layer in range(L)
            for head in range(H)
            for query, row in enumerate(findings.attention[layer, head].tolist())
        ),
    )
    return []


def _tables(findings: Findings) -> Iterator[tuple[str, list[Row]]]:
    """The tables with their names; the rows of one have the same columns."""
    tokens, lens, vocabulary = findings.probabilities, findings.lens, findings.vocabulary
    columns = ("probability", "rank", "surprise", "entropy")
    figures: list[Sequence[Any]] = [[None, *getattr(tokens, name).tolist()] for name in columns]
    names = ("probability", "rank", "surprise_bits", "entropy_bits")
    yield (
        "tokens",
        [
            {"position": position, "id": i, "token": label, **dict(zip(names, values, strict=True))}
            for position, (i, label, *values) in enumerate(zip(findings.ids, findings.labels, *figures, strict=True))
        ],
    )
    yield "heads", [asdict(head) for head in findings.heads]
    yield (
        "lens",
        [
            {
                "layer": layer,
                "position": position,
                "token": findings.labels[position],
                "next_probability": lens.next_probability[row, position].item() if known else None,
                "next_rank": int(lens.next_rank[row, position]) if known else None,
                "entropy_nats": lens.entropy[row, position].item(),
                **{f"top_{k}": vocabulary[i] for k, i in enumerate(lens.top_ids[row, position].tolist(), 1)},
                **{f"p_{k}": share for k, share in enumerate(lens.top_probabilities[row, position].tolist(), 1)},
            }
            for row, layer in enumerate(lens.layers)
            for position in range(len(findings.ids))
            for known in [position < len(findings.ids) - 1]
        ],
    )
    likeliest = findings.effects[0].probabilities.topk(min(20, len(vocabulary))).indices.tolist()
    yield (
        "sampling",
        [
            {
                "setting": effect.name,
                "kept": effect.kept,
                "entropy_bits": effect.entropy,
                "id": i,
                "token": vocabulary[i],
                "probability": effect.probabilities[i].item(),
            }
            for effect in findings.effects
            for i in likeliest
        ],
    )
    places = findings.embedding.coordinates.tolist()
    yield (
        "embedding",
        [
            {"id": i, "token": label, "x": x, "y": y}
            for i, (label, (x, y)) in enumerate(zip(vocabulary, places, strict=True))
        ],
    )


def _write_csv(path: Path, names: Sequence[str], rows: Any) -> None:
    """A table for any program; None is an empty field."""
    with path.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
