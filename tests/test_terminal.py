"""What is shown while a model trains: the bar, its figures, and the small curve of the loss."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from glassgpt.data.tokens import Measure
from glassgpt.training import terminal
from glassgpt.training.evaluation import Score
from glassgpt.training.events import Evaluation, Progress, Step
from glassgpt.training.sparkline import BLOCKS, MOST, Sparkline, blocks
from glassgpt.training.terminal import Terminal, can_show_blocks

FINITE = st.floats(-1e6, 1e6)


@pytest.fixture(autouse=True)
def _a_usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


def curve_of(values: list[float]) -> Sparkline:
    curve = Sparkline()
    for value in values:
        curve.add(value)
    return curve


# --- the curve ---------------------------------------------------------------------------------------------------


def test_heights_are_drawn_from_the_lowest_block_to_the_highest() -> None:
    assert blocks([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert blocks([7.0, 0.0, 3.4]) == "█▁▄"
    assert blocks([2.5, 2.5]) == "▁▁"
    assert blocks([0.0, 5e-324]) == "▁█"
    assert blocks([]) == ""


def test_a_curve_is_the_mean_of_what_falls_into_each_character() -> None:
    values = [8.0, 6.0, 5.0, 5.0, 3.0, 1.0, 0.0, 0.0]
    assert curve_of(values).draw(4) == blocks([7.0, 5.0, 2.0, 0.0])
    assert curve_of(values[:3]).draw(5) == blocks(values[:3]) + "  "
    assert Sparkline().draw(3) == "   "


def test_what_is_no_number_has_no_place_on_the_curve() -> None:
    assert curve_of([3.0, float("nan"), 2.0, float("inf"), 1.0]).draw(3) == blocks([3.0, 2.0, 1.0])


def test_a_long_curve_keeps_its_shape_in_memory_that_does_not_grow() -> None:
    steps = 100_003
    curve = curve_of([abs(step - steps / 2) for step in range(steps)])  # a valley
    assert len(curve._means) < 2 * MOST
    drawn = curve.draw(20)
    assert drawn[:10] == drawn[:9:-1]
    assert drawn[0] == "█" and drawn[9] == "▁"
    heights = [BLOCKS.index(block) for block in drawn]
    assert heights[:10] == sorted(heights[:10], reverse=True)


@given(values=st.lists(FINITE, max_size=700), width=st.integers(1, 40))
def test_any_curve_fits_its_width_and_reaches_both_ends(values: list[float], width: int) -> None:
    drawn = curve_of(values).draw(width)
    assert cell_len(drawn) == width
    assert set(drawn) <= {*BLOCKS, " "}
    if len(set(drawn) - {" "}) > 1:
        assert {"▁", "█"} <= set(drawn)


# --- the terminal ------------------------------------------------------------------------------------------------


def step(number: int, loss: float = 2.0, skipped: int = 0) -> Step:
    return Step(number, number * 100, torch.tensor(loss), torch.tensor(1.0), 1e-3, number * 0.01, skipped)


def show(monkeypatch: pytest.MonkeyPatch, console: Console, steps: int = 30, total: int = 1000, **more: int) -> str:
    """Show a run whose loss falls, reading it at each step; return what the console got, without colours."""
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_READINGS", 0.0)
    watched = SimpleNamespace(total_steps=total, progress=Progress())
    with Terminal(watched, console, Measure(100, 100)) as shown:  # type: ignore[arg-type]
        shown(step(1, 4.0))
        shown(Evaluation(1, 100, Score(3.9, 100), True, 0))
        for number in range(2, steps + 1):
            shown(step(number, 1.5 + 2.5 / number, **more))
        shown._bar.refresh()
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def fake_terminal(width: int, **settings: object) -> Console:
    settings = {"file": io.StringIO(), "force_terminal": True, "legacy_windows": False} | settings
    return Console(width=width, height=24, _environ={"TERM": "xterm-256color"}, **settings)  # type: ignore[arg-type]


def bar(shown: str) -> str:
    """The last state of the line with the bar."""
    return [line for line in re.split(r"[\r\n]", shown) if "━" in line][-1]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_bar_has_a_curve_where_it_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    line = bar(show(monkeypatch, fake_terminal(width)))
    assert cell_len(line) <= width
    found = re.search(r"loss ([▁-█]+) 1\.\d\d val 3\.90 lr 1e-03 \d+\.\dk tok/s", line)
    assert found, line
    assert found[1][0] == "█" and found[1][-1] == "▁"
    assert 5 <= len(found[1]) <= 24
    assert len(re.findall("[━╸╺]", line)) >= 6
    assert line.rstrip().endswith("left")


def test_a_narrow_terminal_drops_the_curve_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    line = bar(show(monkeypatch, fake_terminal(72)))
    assert not set(line) & set(BLOCKS)
    assert re.search(r"step 30/1,000 .*loss 1\.\d\d val 3\.90 lr 1e-03 \d+\.\dk tok/s .* left", line), line


def test_long_numbers_count_for_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    line = bar(show(monkeypatch, fake_terminal(80), total=60_000_000))
    assert not set(line) & set(BLOCKS)
    assert "tok/s" in line


def test_lines_for_a_file_have_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0.0)
    shown = show(monkeypatch, Console(file=io.StringIO(), width=200))
    assert not set(shown) & set(BLOCKS)
    assert len(shown.splitlines()) > 3
    assert "train" in shown.splitlines()[0] and "left" in shown.splitlines()[-1]


class Narrow(io.StringIO):
    encoding = "ascii"


@pytest.mark.parametrize(
    ("settings", "term", "can"),
    [
        ({}, "xterm-256color", True),
        ({"file": Narrow()}, "xterm-256color", False),
        ({"legacy_windows": True}, "xterm-256color", False),
        ({"force_terminal": False}, "xterm-256color", False),
        ({}, "linux", False),
        ({}, "dumb", False),
    ],
    ids=["usual", "ascii", "old Windows", "a file", "a bare console", "dumb"],
)
def test_where_block_characters_can_be_shown(
    settings: dict[str, object], term: str, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert can_show_blocks(fake_terminal(80, **settings)) is can


def test_the_curve_is_drawn_at_readings_not_at_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(Sparkline, "draw", lambda _, width: drawn.append(width) or "")
    monkeypatch.setattr(terminal.time, "monotonic", lambda: 100.0)
    watched = SimpleNamespace(total_steps=1000, progress=Progress())
    shown = Terminal(watched, fake_terminal(120), Measure(100, 100))  # type: ignore[arg-type]
    for number in range(1, 51):
        shown(step(number))
    assert len(drawn) == 1


def test_steps_that_were_skipped_are_told_and_leave_the_loss_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    console = fake_terminal(120)
    watched = SimpleNamespace(total_steps=1000, progress=Progress())
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_READINGS", 0.0)
    with Terminal(watched, console, Measure(100, 100)) as shown:  # type: ignore[arg-type]
        shown(step(1, float("nan"), skipped=1))
        assert "loss nan" in shown._figures(step(1, skipped=1), "").replace("[cyan]", "")
        shown(step(2, 2.0, skipped=1))
        shown(step(3, float("inf"), skipped=2))
        assert "2.00" in shown._figures(step(3, skipped=2), "")
        assert "2 skipped" in shown._figures(step(3, skipped=2), "")
