"""A folder with all that can be seen of one model and one text: the page, pictures, and the data behind them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.errors import UserError, show
from glassgpt.files import (
    check_no_file,
    discard,
    having_folder,
    is_temporary,
    remove_leftovers,
    sync_file,
    sync_folder,
    temporary_name,
)
from glassgpt.generation.text import prompt_ids
from glassgpt.inspection.capture import as_gpt
from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.page import LIMIT, write_page
from glassgpt.inspection.tables import write_tables
from glassgpt.locks import FileLockedError, holding
from glassgpt.paths import expand
from glassgpt.runs import Run
from glassgpt.training.drawing import load_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, DATA, PICTURES, LOCK, BEFORE = "page.html", "data", "pictures", ".inspect.lock", "before"
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
        out: a folder that is new, empty, or from an earlier time: that is replaced when all is written.
        crop: look only at the end of a longer text, instead of refusing it.
        pictures: whether to draw them, too.

    Raises:
        UserError: the text is empty, too long or has unknown characters, the model is no GPT or its numbers are none,
            or the folder holds something else, or is being written to.
        OSError: it cannot be written.
    """
    if not isinstance(run, Run) or not isinstance(prompt, str):
        wanted = "run: a glassgpt.Run is" if not isinstance(run, Run) else "prompt: a str is"
        raise TypeError(f"{wanted} needed, not {show(prompt if isinstance(run, Run) else run)}")
    out = expand(out)
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
    found = [path for path in out.iterdir() if not is_temporary(path) and path.name != LOCK] if out.exists() else []
    if found and not (out / PAGE in found and all(map(_is_ours, found))):
        raise UserError(f"{out}: holds something else than an earlier inspection: choose another folder with --out")


def _is_ours(path: Path) -> bool:
    """Whether an earlier inspection wrote this part, and all that is in it: it will be replaced."""
    if path.is_symlink():
        return False
    if path.name == PAGE and path.is_file():
        with path.open("rb") as page:
            return MARK in page.read(2000)
    return (
        path.name in (DATA, PICTURES)
        and path.is_dir()
        and all(
            is_temporary(file) or (OURS.fullmatch(file.name) and file.is_file() and not file.is_symlink())
            for file in path.iterdir()
        )
    )


def write_report(findings: Findings, out: Path, *, pictures: bool = True, limit: int = LIMIT) -> Summary:
    """Write what was found: see `inspect_run`.

    Args:
        findings: from `look`.
        out: the folder.
        pictures: whether to draw them, too.
        limit: the most bytes that the page may have.

    Raises:
        UserError: the folder holds something else, or is being written to.
        OSError: it cannot be written.
    """
    try:
        with having_folder(out), holding(out / LOCK):
            _put_back(out)
            check_out(out)
            remove_leftovers(out)
            return _write(findings, out, pictures, limit)
    except FileLockedError:
        raise UserError(
            f"{out}: another inspection is being written there: wait for it, or choose another folder with --out"
        ) from None


def _write(findings: Findings, out: Path, pictures: bool, limit: int) -> Summary:
    """Write all of it aside, then put it in its place: whatever goes wrong before, what was there stays."""
    aside = temporary_name(out / "inspection")
    is_whole = True
    try:
        (aside / DATA).mkdir(parents=True)
        page = write_page(aside / PAGE, findings, limit=limit)
        left_out = [f"{what}: not on the page" for what in page.left_out] + write_tables(findings, aside / DATA)
        if pictures:
            try:
                load_matplotlib()
            except UserError as error:
                left_out.append(str(error))
            else:
                _draw(findings, aside / PICTURES)
        written = [aside / PAGE, *(file for name in (DATA, PICTURES) for file in sorted((aside / name).glob("*")))]
        for file in written:
            sync_file(file)
        names = [file.relative_to(aside) for file in written]
        (aside / BEFORE).mkdir()
        is_whole = False
        _exchange(aside, out)
        is_whole = True
        sync_folder(out)
    except OSError as error:  # named as it would be called in the end
        error.filename = str(error.filename or out).replace(str(aside), str(out))
        raise
    finally:
        if is_whole or not any((aside / BEFORE).iterdir()):  # else it is put back the next time
            discard(aside)
    return Summary(out, len(findings.ids), page.bytes, names, left_out)


def _exchange(aside: Path, out: Path) -> None:
    """Put the new parts in place of the old ones, which go to `aside`; if a rename fails, put the old ones back.

    These are renames alone: a moment. The page comes last: it stands for all of it, and is there at any time.
    """
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        if source.exists():
            source.rename(target)
            done.append((source, target))

    try:
        for name in (DATA, PICTURES):
            move(out / name, aside / BEFORE / name)
            move(aside / name, out / name)
        (aside / PAGE).replace(out / PAGE)
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _put_back(out: Path) -> None:
    """Put back what a process that was killed in the middle of `_exchange` had taken away, if nothing replaced it."""
    for old in out.glob(f".inspection.*.tmp/{BEFORE}/*"):
        if is_temporary(old.parent.parent) and not (out / old.name).exists():
            old.rename(out / old.name)


def _draw(findings: Findings, folder: Path) -> None:
    """Each picture as PNG and as SVG."""
    from glassgpt.training.drawing import save_figure

    folder.mkdir()
    for name, figure in _figures(findings):
        for kind in ("png", "svg"):
            save_figure(figure, folder / f"{name}.{kind}")


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
