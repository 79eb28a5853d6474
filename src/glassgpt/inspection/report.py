"""A folder with all that can be seen of one model and one text: the page, pictures, and the data behind them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.errors import UserError
from glassgpt.files import check_no_file, creating_folder, having_folder, is_temporary, remove_folder
from glassgpt.generation.text import prompt_ids
from glassgpt.inspection.capture import as_gpt
from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.page import LIMIT, write_page
from glassgpt.inspection.tables import write_tables
from glassgpt.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, DATA, PICTURES = "page.html", "data", "pictures"
MARK = b'<meta name="generator" content="glassgpt inspect">'
OURS = re.compile(
    r"(text|tokens|lens|heads|attention|attention-layer-\d+-head-\d+|embedding|neighbours|positions"
    r"|position-similarity|explained|sampling)\.(csv|json|png|svg)"
)


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


def inspect_run(run: Run, prompt: str, out: str | Path, *, crop: bool = False, pictures: bool = True) -> Summary:
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
    out = Path(out)
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
            left_out += write_tables(findings, folder)
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
    if findings.positions is not None and findings.similarity is not None:
        yield "positions", pictures.position_plane(findings.positions)
        yield "position-similarity", pictures.position_plot(findings.similarity)
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
