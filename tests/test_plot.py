"""Pictures of runs: one run's again, several over each other; what they show, and that they come out the same."""

import itertools
import json
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from glassgpt.errors import UserError
from glassgpt.reading import read_json
from glassgpt.runs import RunFolder, read_metrics
from glassgpt.training import curves, overlay
from glassgpt.training.drawing import DASHES, View, line_style, plain, points, smooth
from tests.conftest import SMALL, call

Figures = list[Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Figures:
    """The figures that were saved, to be looked into."""
    figures: Figures = []
    for module in (curves, overlay):
        monkeypatch.setattr(module, "save_figure", lambda figure, _path: figures.append(figure))
    return figures


def made_up(n: int = 50, final: float = 1.5) -> list[dict[str, Any]]:
    """Metrics with an evaluation at every fifth line, a learning rate that ends at 0, and a step that was skipped."""
    rows = []
    for number in range(1, n + 1):
        loss = final + 3 / number
        val = loss + 0.1 if number % 5 == 0 else None
        row = {"step": 10 * number, "tokens": 640 * number, "bytes": 900 * number, "train_loss": loss, "val_loss": val}
        row |= {"val_bits_per_byte": val and val / math.log(2), "lr": 1e-3 * (1 - number / n), "grad_norm": 1 / number}
        rows.append(row | {"skipped": 0, "tokens_per_second": 5000.0 + number, "seconds": 0.2 * (number - 1)})
    for row in rows[2:3]:
        row |= {"train_loss": None, "grad_norm": None}
    return rows


@pytest.fixture
def copy_of(trained_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder by this name, with other metrics and perhaps no summary."""

    def copy(name: str, rows: list[dict[str, Any]] | None = None, *, finished: bool = False) -> Path:
        run = tmp_path / name
        shutil.copytree(trained_run, run)
        if rows is not None:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (run / "metrics.jsonl").write_text(text, encoding="utf-8")
        if not finished:
            (run / "summary.json").unlink()
        (run / "curves.png").unlink()
        return run

    return copy


# --- one run -----------------------------------------------------------------------------------------------------


def test_the_picture_of_a_finished_run_is_drawn_again_to_the_byte(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "curves.png").unlink()
    assert call("plot", tmp_path / "run") == 0
    assert (tmp_path / "run" / "curves.png").read_bytes() == (trained_run / "curves.png").read_bytes()


def test_it_shows_what_the_metrics_say(copy_of: Callable[..., Path], drawn: Figures) -> None:
    rows = made_up()
    assert call("plot", copy_of("run", rows), "--x", "tokens", "--smooth", 0) == 0
    losses, rates, norms = drawn[0].axes[:3]
    made = [row for row in rows if row["train_loss"] is not None]
    evaluated = [row for row in rows if row["val_loss"] is not None]
    raw, smoothed, validation = losses.lines
    for line in (raw, smoothed):
        assert list(line.get_xdata()) == [row["tokens"] for row in made]
        assert list(line.get_ydata()) == pytest.approx([row["train_loss"] for row in made])
    assert list(validation.get_xdata()) == [row["tokens"] for row in evaluated]
    assert list(validation.get_ydata()) == [row["val_loss"] for row in evaluated]
    assert list(rates.lines[0].get_ydata()) == [row["lr"] for row in rows]
    assert list(norms.lines[0].get_ydata()) == [row["grad_norm"] for row in made]
    assert losses.get_xlabel() == "tokens seen"
    assert "up to step 500" in losses.get_title()
    # the second scale, told from the metrics alone
    bits = losses.child_axes[0]
    drawn[0].canvas.draw()
    assert bits.get_ylim() == pytest.approx([loss / math.log(2) for loss in losses.get_ylim()])


def test_scales_are_logarithmic_where_asked_for(copy_of: Callable[..., Path], drawn: Figures) -> None:
    assert call("plot", copy_of("run", made_up()), "--x", "seconds", "--log-x", "--log-y") == 0
    losses, rates, norms = drawn[0].axes[:3]
    assert [axes.get_xscale() for axes in (losses, rates, norms)] == ["log"] * 3
    assert [axes.get_yscale() for axes in (losses, rates, norms)] == ["log", "linear", "log"]
    assert min(losses.lines[0].get_xdata()) > 0  # the first line, at 0 s, is left out
    drawn[0].canvas.draw()
    for axis in (losses.xaxis, losses.yaxis, losses.child_axes[0].yaxis):
        low, high = sorted(axis.get_view_interval())
        shown = [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert len([text for text in shown if text]) >= 2
        assert not any("$" in text for text in shown)


def test_a_resumed_run_is_not_said_to_be_finished(copy_of: Callable[..., Path], drawn: Figures) -> None:
    run = copy_of("run", finished=True)
    summary = read_json(run / "summary.json", "summary")
    rows = read_metrics(run / "metrics.jsonl")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[-1] | {"step": 13}]))
    assert call("plot", run) == 0
    assert "up to step 13" in drawn[0].axes[0].get_title()
    baseline = drawn[0].axes[0].lines[-1]
    assert baseline.get_ydata()[0] == summary["bigram"]["loss"]


def test_a_killed_run_and_one_that_is_being_written(copy_of: Callable[..., Path], drawn: Figures) -> None:
    run = copy_of("run", made_up(3))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tok')
    for name in ("model.safetensors", "samples.txt", "tokenizer.json"):
        (run / name).unlink()
    assert call("plot", run) == 0
    assert len(drawn[0].axes[0].lines[0].get_xdata()) == 2  # three lines, of which one was skipped


# --- several runs ------------------------------------------------------------------------------------------------

FIGURES = {
    "train-loss": "train_loss",
    "val-loss": "val_loss",
    "bits": "val_bits_per_byte",
    "lr": "lr",
    "grad-norm": "grad_norm",
    "tokens-per-second": "tokens_per_second",
}


@pytest.mark.parametrize("x", ["step", "tokens", "bytes", "seconds"])
@pytest.mark.parametrize("y", FIGURES)
def test_any_figure_of_several_runs_against_any_other(
    x: str, y: str, copy_of: Callable[..., Path], drawn: Figures
) -> None:
    runs = [made_up(final=final) for final in (1.5, 2.0, 2.5, 3.0)]
    folders = [copy_of(f"run-{number}", rows) for number, rows in enumerate(runs)]
    assert call("plot", *folders, "--x", x, "--y", y, "--smooth", 0) == 0
    lines = drawn[0].axes[0].lines
    assert len(lines) == 4
    for line, rows in zip(lines, runs, strict=True):
        there = [row for row in rows if row[FIGURES[y]] is not None]
        assert list(line.get_xdata()) == [row[x] for row in there]
        assert list(line.get_ydata()) == pytest.approx([row[FIGURES[y]] for row in there])


def test_losses_are_those_of_training_and_with_marks_of_validation(
    copy_of: Callable[..., Path], drawn: Figures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [copy_of(name, made_up(final=final)) for name, final in (("a", 1.0), ("b", 2.0))]
    assert call("plot", *folders) == 0
    marked = [line for line in drawn[0].axes[0].lines if line.get_marker() not in ("None", "", None)]
    assert [len(line.get_xdata()) for line in marked] == [10, 10]
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a: best 1.160", "b: best 2.160"]


def test_lines_are_told_apart_without_colour() -> None:
    styles = [line_style(number) for number in range(49)]
    assert len({(to_hex(style["color"]), str(style["linestyle"])) for style in styles}) == 49
    assert len({str(style["linestyle"]) for style in styles[:7]}) == 7
    assert len({str(dashes) for dashes in DASHES}) == len(DASHES)


AWKWARD = ["_hidden", "cost$100$ or $x", "a" * 150, "ü\\alpha{", "小さい", "%d %s", "plain"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_any_name_can_be_written_below(suffix: str, copy_of: Callable[..., Path], tmp_path: Path) -> None:
    run = copy_of("run", made_up())
    picture = tmp_path / f"picture.{suffix}"
    labels = itertools.chain.from_iterable(("--labels", name) for name in AWKWARD)
    assert call("plot", *[run] * len(AWKWARD), *labels, "--out", picture) == 0
    assert picture.stat().st_size > 10_000


def test_names_are_shown_as_they_are(copy_of: Callable[..., Path], drawn: Figures, tmp_path: Path) -> None:
    run = copy_of("run", made_up(2))
    for label in AWKWARD:
        assert call("plot", run, "--labels", label, "--y", "lr", "--out", tmp_path / "p.png") == 0
    shown = [figure.legends[0].get_texts()[0].get_text() for figure in drawn]
    assert [text.strip().replace(r"\$", "$") for text in shown if "…" not in text] == [
        AWKWARD[n] for n in (0, 1, 3, 4, 5, 6)
    ]
    assert len(plain("a" * 150)) == 100


def test_folders_of_one_name_are_told_apart(
    copy_of: Callable[..., Path], drawn: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent).mkdir()
        copy_of(f"{parent}/run", made_up())
    monkeypatch.chdir(tmp_path)
    assert call("plot", "one/run", "two/run", "--y", "lr") == 0
    names = [Path(text.get_text()) for text in drawn[0].legends[0].get_texts()]
    assert names == [Path("one/run"), Path("two/run")]


def test_a_run_without_the_figure_is_named_and_left_out(
    copy_of: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    never = [row | {"val_loss": None, "val_bits_per_byte": None} for row in made_up()]
    runs = copy_of("judged", made_up()), copy_of("never", never)
    assert call("plot", *runs, "--y", "bits", "--out", tmp_path / "p.svg") == 0
    shown = capfd.readouterr()
    assert shown.err == "never: no bits to draw\n"
    assert shown.out == f"curves: {tmp_path / 'p.svg'}\n"


def test_losses_of_different_tokenizers_are_said_not_to_compare(
    trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bytes_ = ("--tokenizer.kind", "byte")
    assert call("train", "--data", trained_run.parent / "text.txt", "--out", tmp_path / "bytes", *SMALL, *bytes_) == 0
    capfd.readouterr()
    for y, said in (("loss", True), ("val-loss", True), ("bits", False), ("lr", False)):
        assert call("plot", trained_run, tmp_path / "bytes", "--y", y, "--out", tmp_path / "p.png") == 0
        assert ("different tokenizers" in capfd.readouterr().err) is said


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "svg", "SVG"])
@pytest.mark.parametrize("several", [False, True])
def test_the_same_curves_give_the_same_bytes(
    suffix: str, several: bool, copy_of: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [copy_of(f"run-{number}", made_up()) for number in range(2 if several else 1)]
    pictures = [tmp_path / f"{number}.{suffix}" for number in range(2)]
    for picture in pictures:
        assert call("plot", *runs, "--out", picture) == 0
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second
    if suffix == "png":
        assert first.startswith(b"\x89PNG")
    else:
        assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"dc:date" not in first


def test_a_comparison_can_be_an_svg(trained_run: Path, tmp_path: Path) -> None:
    assert call("compare", trained_run, "--out", tmp_path / "c.svg") == 0
    assert ET.fromstring((tmp_path / "c.svg").read_bytes()).tag.endswith("svg")


BAD: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "no runs": (lambda f: ["plot"], "name run folders"),
    "no such run": (lambda f: ["plot", f / "run", f / "nothing"], "nothing: no such run folder"),
    "no run": (lambda f: ["plot", f], "not a run folder"),
    "empty metrics": (lambda f: ["plot", f / "empty"], "metrics.jsonl: nothing in it yet"),
    "one with empty metrics": (lambda f: ["plot", f / "run", f / "empty"], "metrics.jsonl: nothing in it yet"),
    "damaged metrics": (lambda f: ["plot", f / "damaged"], "metrics.jsonl: damaged"),
    "metrics of old": (lambda f: ["plot", f / "old", "--x", "bytes"], "metrics.jsonl: without 'bytes'.*older"),
    "unknown suffix": (lambda f: ["plot", f / "run", "--out", f / "p.jpg"], "p.jpg.*.png or .svg"),
    "no suffix": (lambda f: ["plot", f / "run", "--out", f / "p"], ".png or .svg"),
    "another suffix for a comparison": (lambda f: ["compare", f / "run", "--out", f / "p.pdf"], ".png or .svg"),
    "a folder for a picture": (lambda f: ["plot", f / "run", "--out", f / "folder.png"], "folder.png: is a folder"),
    "a picture nowhere": (lambda f: ["plot", f / "run", "--out", f / "a" / "p.png"], "no such folder"),
    "unknown x": (lambda f: ["plot", f / "run", "--x", "time"], "--x.*seconds"),
    "unknown y": (lambda f: ["plot", f / "run", "--y", "perplexity"], "--y.*bits"),
    "nothing above zero": (lambda f: ["plot", f / "zero", "--y", "lr", "--log-y"], "zero: no lr to draw above 0"),
    "never evaluated": (lambda f: ["plot", f / "zero", "--y", "bits"], "zero: no bits to draw$"),
    "a negative smoothing": (lambda f: ["plot", f / "run", "--smooth", -1], "--smooth -1"),
    "a smoothing that is no number": (lambda f: ["plot", f / "run", "--smooth", "nan"], "--smooth nan"),
    "a smoothing that is a word": (lambda f: ["plot", f / "run", "--smooth", "much"], "--smooth"),
    "too few labels": (lambda f: ["plot", f / "run", f / "run", "--labels", "a"], "--labels: 1 for 2 runs"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_gets_one_line(
    name: str, copy_of: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy_of("run", made_up())
    copy_of("empty", [])
    copy_of("damaged").joinpath("metrics.jsonl").write_text("{\n{}\n")
    copy_of("old", [{key: value for key, value in row.items() if key != "bytes"} for row in made_up()])
    copy_of("zero", [row | {"lr": 0.0, "val_bits_per_byte": None} for row in made_up()])
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    make, message = BAD[name]
    assert call(*make(tmp_path)) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1, shown.err
    assert re.search(message, shown.err.strip()), shown.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_metrics_file_that_is_not_there_is_empty(copy_of: Callable[..., Path]) -> None:
    run = copy_of("run")
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="nothing in it yet"):
        curves.read_rows(RunFolder(run))


# --- smoothing ---------------------------------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(-1e3, 1e3), max_size=60)


@given(values=NUMBERS, window=st.integers(1, 80))
def test_smoothing_is_the_mean_over_a_window(values: list[float], window: int) -> None:
    reach = window // 2
    expected = [fmean(values[max(0, i - reach) : i + min(i, reach) + 1]) for i in range(len(values))]
    assert smooth(values, window) == pytest.approx(expected, abs=1e-6)


@given(values=NUMBERS)
def test_no_smoothing_changes_nothing(values: list[float]) -> None:
    assert smooth(values, 0) == pytest.approx(values, abs=1e-9)
    assert smooth(values, 1) == pytest.approx(values, abs=1e-9)


def test_a_memory_is_a_window() -> None:
    values = [math.sin(number) for number in range(100)]
    assert smooth(values, 0.9) == smooth(values, 10)
    assert smooth(values, 0.75) == smooth(values, 4)
    assert smooth(values) == smooth(values, 5)


@pytest.mark.parametrize("window", [2, 10, 0.9, None])
def test_a_smoothed_curve_does_not_lag(window: float | None) -> None:
    falling = [100.0 - number for number in range(100)]
    assert smooth(falling, window)[:90] == pytest.approx(falling[:90])


def test_points_leave_out_what_a_logarithmic_axis_cannot_show() -> None:
    rows = made_up(4)
    assert points(rows, "lr", View("seconds"))[0] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert points(rows, "lr", View("seconds", log_x=True))[0] == pytest.approx([0.2, 0.4, 0.6])
    assert points(rows, "lr", View("seconds", log_y=True))[0] == pytest.approx([0.0, 0.2, 0.4])
