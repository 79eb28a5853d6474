"""glassgpt generate"""

import sys
from functools import partial
from typing import Annotated, Any, Literal

from glassgpt.cli.options import Escaped, Number, Prompt, Repeated, RunPath, Switch, WholeNumber
from glassgpt.cli.output import note
from glassgpt.cli.stdin import read_prompt
from glassgpt.errors import UserError, printable

MOST_SAMPLES = 1_000_000


def generate(
    run: RunPath,
    /,
    *,
    prompt: Prompt | None = None,
    max_new_tokens: WholeNumber | None = None,
    temperature: Number | None = None,
    top_k: WholeNumber | None = None,
    top_p: Number | None = None,
    min_p: Number | None = None,
    typical_p: Number | None = None,
    repetition_penalty: Number | None = None,
    stop: Annotated[list[Escaped] | None, Repeated] = None,
    when_full: Literal["crop", "rotate", "stop"] | None = None,
    seed: WholeNumber | None = None,
    num_samples: WholeNumber = 1,
    greedy: Annotated[bool, Switch] = False,
    crop_prompt: Annotated[bool, Switch] = False,
    mode: Literal["auto", "eager", "compiled", "graphs"] = "auto",
    weights: Literal["float32", "int8"] = "float32",
    device: str = "auto",
) -> None:
    r"""Write text with a trained model.

    The text, prompt included, goes to standard output as it comes; everything else to standard error. On a terminal,
    control characters of the text are shown as signs.
    Settings left out are those of the run's recipe. A text may be longer than the model's context: see --when-full.

    Parameters
    ----------
    run
        A run folder.
    prompt
        The beginning. If omitted: standard input, which must not be empty; or the recipe's prompt if standard input is
        a terminal, closed or /dev/null.
    max_new_tokens
        The most tokens to write.
    temperature
        Below 1 safer, above 1 bolder, 0 always the likeliest token.
    top_k
        Only the k likeliest tokens (0: all).
    top_p
        Only the likeliest tokens that make up this probability together.
    min_p
        Only tokens at least this share as likely as the likeliest.
    typical_p
        Only tokens about as surprising as is to be expected, that make up this probability together.
    repetition_penalty
        Above 1: tokens that are already there become less likely.
    stop
        End the text at this string, which is left out. May come several times. \n means a newline, \t a tab, \\ a
        backslash.
    when_full
        A full context. crop: its last half is read again; rotate (rotary positions): the oldest token is forgotten;
        stop: the text ends.
    seed
        The same seed gives the same text. Left out: another one each time, shown on standard error.
    num_samples
        How many texts, each from the same prompt.
    greedy
        Always the likeliest token: the same as --temperature 0.
    crop_prompt
        Look only at the end of a prompt that is longer than the model's context, instead of refusing it.
    mode
        How to decode. compiled: for this machine, once, in about half a minute, and up to seven times as fast from then
        on (a CPU with a C++ compiler); graphs: CUDA graphs; eager: the model as it is. auto: compiled if that has been
        done before, or for 20,000 tokens and more; graphs on CUDA.
    weights
        int8: matrices in 8 bits, two to three times as fast for a large model, and nearly as good.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    if greedy and temperature:
        raise UserError("--greedy and --temperature say different things: give one of them")
    if not 1 <= num_samples <= MOST_SAMPLES:
        raise UserError(f"--num-samples {num_samples}: from 1 to {MOST_SAMPLES:,}")
    if seed is not None and seed < 0:
        raise UserError(f"--seed {seed}: 0 or more")
    from glassgpt.generation.text import texts
    from glassgpt.runs import load
    from glassgpt.threads import settle

    settle(device)

    loaded = load(run, device)
    given = {
        "max_new_tokens": max_new_tokens,
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop,
        "when_full": when_full,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = loaded.sampling(**settings)
    text = loaded.prompt(read_prompt() if prompt is None else prompt)
    engine = loaded.engine(
        mode=mode,
        weights=weights,
        rotating=config.when_full == "rotate",
        tokens=config.max_new_tokens * num_samples,
        tell=partial(_note, everything=mode != "auto"),
    )
    tell_seed = False
    if seed is None:
        from secrets import randbits

        seed = randbits(31)
        tell_seed = config.temperature > 0
    for sample in range(num_samples):
        pieces = texts(loaded.pieces(text, seed=seed + sample, crop_prompt=crop_prompt, engine=engine, **settings))
        first = next(pieces, "")  # whatever is wrong with the prompt is said before anything is written
        if tell_seed and sample == 0:
            note(f"seed {seed}")
        if num_samples > 1:
            note(f"--- {sample + 1} of {num_samples} ---")
        _write(text + first)
        for piece in pieces:
            _write(piece)
        sys.stdout.write("\n")
        sys.stdout.flush()


def _write(piece: str) -> None:
    """Write at once; a terminal gets no control characters, which would change its settings or move its cursor."""
    sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
    sys.stdout.flush()


def _note(what: str, *, everything: bool) -> None:
    """What the engine says: what there is to wait for or went wrong, and how it decodes, if someone asked for that."""
    if everything or not what.startswith("decoding"):
        note(what)
