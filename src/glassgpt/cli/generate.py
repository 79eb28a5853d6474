"""glassgpt generate"""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from glassgpt.cli.options import Repeated, Switch, WholeNumber
from glassgpt.errors import UserError


def generate(
    run: Path,
    /,
    *,
    prompt: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    max_new_tokens: WholeNumber | None = None,
    temperature: float | None = None,
    top_k: WholeNumber | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    repetition_penalty: float | None = None,
    stop: Annotated[list[str] | None, Repeated] = None,
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

    The text, prompt included, goes to standard output as it comes; everything else to standard error.
    Settings left out are those of the run's recipe. A text may be longer than the model's context: see --when-full.

    Parameters
    ----------
    run
        A run folder.
    prompt
        The beginning. Left out: standard input, or the recipe's prompt if that is a terminal.
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
        End the text at this string, which is left out. May come several times.
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
    if num_samples < 1:
        raise UserError(f"--num-samples {num_samples}: at least 1")
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
    if prompt is None and not sys.stdin.isatty():
        prompt = _read_stdin()
    text = loaded.prompt(prompt)
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
            print(f"seed {seed}", file=sys.stderr)
        if num_samples > 1:
            print(f"--- {sample + 1} of {num_samples} ---", file=sys.stderr, flush=True)
        sys.stdout.write(text + first)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        sys.stdout.flush()


def _note(what: str, *, everything: bool) -> None:
    """What the engine says: what there is to wait for or went wrong, and how it decodes, if someone asked for that."""
    if everything or not what.startswith("decoding"):
        print(what, file=sys.stderr, flush=True)


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")  # as texts are read for training
    except UnicodeDecodeError:
        raise UserError("the prompt on standard input is not UTF-8 text") from None
    if not text:
        raise UserError('the prompt on standard input is empty: pipe a text into it, or give --prompt "…"')
    return text
