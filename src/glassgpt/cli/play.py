"""glassgpt play"""

import sys
from typing import Literal

from glassgpt.cli.options import RunPath


def play(
    run: RunPath,
    /,
    *,
    mode: Literal["auto", "eager", "compiled", "graphs"] = "auto",
    weights: Literal["float32", "int8"] = "float32",
    device: str = "auto",
) -> None:
    """Play with a trained model: type a beginning, watch it go on, change settings, try again.

    A line is a beginning; an empty line lets the text go on; /help lists the commands. Standard input may be a pipe:
    then each of its lines is taken as if it were typed, texts go to standard output, and notes to standard error.

    Parameters
    ----------
    run
        A run folder.
    mode
        How to decode, as in generate: auto, eager, compiled or graphs.
    weights
        float32, or int8: matrices in 8 bits.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from glassgpt.cli.playing.commands import Player, completions
    from glassgpt.cli.playing.lines import Keyboard, Lines, Pipe, bounded_lines
    from glassgpt.cli.playing.screen import Screen
    from glassgpt.cli.playing.session import Session
    from glassgpt.runs import load
    from glassgpt.threads import settle

    settle(device)
    loaded = load(run, device)
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    screen = Screen()
    loaded.engine_options = {"mode": mode, "weights": weights}
    if mode == "compiled":
        loaded.engine_options["tell"] = screen.note
        loaded.warm_up()  # the wait comes before the first text, and says what it is
    session = Session(loaded, str(run), screen.note)
    lines: Lines
    if sys.stdin.isatty() and screen.is_terminal:
        screen.note(f"{run}: {parameters:,} parameters, a context of {loaded.block_size} tokens")
        screen.note("Type a beginning, or only Enter for the recipe's own. /help lists the commands.")
        lines = Keyboard(completions)
    else:
        lines = Pipe(bounded_lines(sys.stdin.buffer))
    Player(session, screen, lines).play()
