"""Call the Python interface with arguments of wrong types and values, and check properties on right ones.

    python benchmarks/fuzz_api.py [--cases 20000] [--seed 0] [--only N]

A wrong argument raises a UserError, TypeError or ValueError whose message names the argument or the value: never
another exception, a result as if nothing were wrong, an endless loop or memory without bound. With right arguments,
texts come back from their ids, streams join to the whole, and cuts change nothing. Linux only.
"""

import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import Result, Stage, fuzz
from fuzzing_calls import CALLS, KINDS, STRINGS, arguments_of
from fuzzing_checks import Finding, check_folders, normal
from fuzzing_child import Run
from fuzzing_seeds import make_seed

SEEDS = ("texts", "tokenizers", "run", "run-bpe")
ALLOWED = (TypeError, ValueError)  # a UserError is a ValueError


def trial(stage: Stage, rng: random.Random) -> Result:
    """One call with a wrong argument, or one property."""
    stage.place(SEEDS)
    before = stage.look()
    tokenizer = rng.choice(["char", "bpe", "word", "byte"])
    if rng.random() < 0.15:
        text = "".join(rng.choice(STRINGS) for _ in range(rng.randrange(1, 4)))
        what = f"properties of {tokenizer} on {text!r:.300}"
        outcome = stage.run(Run(lambda: check_properties(tokenizer, text, rng)))
    else:
        call, wrong, what = make_call(rng)
        what = f"{what}  (tokenizer: {tokenizer})"
        outcome = stage.run(Run(lambda: check_call(call, wrong, tokenizer)))
    findings = []
    if outcome.ended:
        findings.append(
            Finding(outcome.ended, f"{what.split('(')[0]}: {outcome.where}", f"{outcome.peak / 1e6:.0f} MB")
        )
    elif outcome.code not in (0, 2):
        said = outcome.stdout.decode("utf-8", "replace")
        kind, _, rest = said.partition("\n")
        findings.append(
            Finding(kind or "code", rest.partition("\n")[0] or f"exit {outcome.code}", rest + outcome.uncaught)
        )
    if not findings:
        findings = check_folders(before, stage.look(), outcome.code, ["work/made"], ["work/made"])
    return Result(what, findings, [outcome.code], outcome.stdout.decode("utf-8", "replace"))


def make_call(rng: random.Random) -> tuple[str, dict[str, str], str]:
    """A call as Python, and which of its arguments are wrong."""
    name = rng.choice(list(CALLS))
    template, arguments = CALLS[name][0], arguments_of(name)
    given, wrong = {}, {}
    spoiled = rng.sample(list(arguments), min(len(arguments), rng.choice([0, 1, 1, 1, 2])))
    for argument, kind in arguments.items():
        bare = argument.removeprefix("*")
        if argument in spoiled and KINDS[kind].wrong:
            given[bare] = wrong[bare] = rng.choice(KINDS[kind].wrongs())
        elif not argument.startswith("*") or rng.random() < 0.3:
            given[bare] = rng.choice(KINDS[kind].rights())
    if ("[" in template and "for token" in template) or name in ("from_state", "load_tokenizer", "tokenizer.save"):
        words = ", ".join(given.values())
    else:
        words = ", ".join(f"{argument}={value}" for argument, value in given.items())
    call = template.replace("{}", words)
    return call, wrong, f"{name}: {call}"


def names_for(tokenizer: str) -> dict[str, Any]:
    """What calls are made of."""
    import numpy as np
    import torch

    import glassgpt
    from glassgpt.data.batches import Batches, Windows, as_token_array
    from glassgpt.generation.config import SamplingConfig
    from glassgpt.generation.engine import Request
    from glassgpt.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, load_tokenizer

    kinds = {name: load_tokenizer(f"{name}.json") for name in ("char", "bpe", "word")} | {"byte": ByteTokenizer()}
    run = glassgpt.load("run", "cpu")

    def submit(**arguments: Any) -> object:
        engine = run.engine()
        engine.add(Request(**arguments))
        while not engine.is_idle:
            engine.step()
        return engine

    return {
        **{"np": np, "torch": torch, "glassgpt": glassgpt, "Path": Path, "run": run, "submit": submit},
        **{"Batches": Batches, "Windows": Windows, "as_token_array": as_token_array, "SamplingConfig": SamplingConfig},
        **{"CharTokenizer": CharTokenizer, "BPETokenizer": BPETokenizer, "load_tokenizer": load_tokenizer},
        **{"TrainingConfig": glassgpt.TrainingConfig, "ModelConfig": glassgpt.ModelConfig},
        **kinds,
        "tokenizer": kinds[tokenizer],
    }


def check_call(call: str, wrong: dict[str, str], tokenizer: str) -> int:  # noqa: PLR0911
    """Make the call, in the child: 0 if it is taken, 2 if it is refused as it should be, else 1 and words to print."""
    names = names_for(tokenizer)
    place = call.partition("(")[0]
    documented = {"tokenizer.save": OSError, "glassgpt.inspect_run": OSError, "type": KeyError}.get(place, ())
    if place == "type" and (tokenizer == "byte" or not wrong):
        return 0  # it has no state
    try:
        result = eval(call, names)  # the calls above, nothing from outside
    except documented:  # a path cannot be written; from_state's words are for whoever knows the file
        return 2
    except ALLOWED as error:
        if wrong and place != "type" and not _names_it(str(error), wrong, names):
            said = f"{place} about {', '.join(wrong)}: {normal(str(error))[:100]}"
            return _tell("message", said, traceback.format_exc())
        print(f"{type(error).__name__}: {error}")
        return 2
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/glassgpt/" in frame.filename]
        at = f"{frames[-1].filename.partition('/src/')[2]}:{frames[-1].lineno}" if frames else place
        return _tell("traceback", f"{type(error).__name__} at {at}", traceback.format_exc())
    if wrong:
        return _tell(
            "wrong",
            f"{place} takes {', '.join(f'{name}={value}' for name, value in wrong.items())}",
            f"{result!r:.300}",
        )
    return 0


def _names_it(message: str, wrong: dict[str, str], names: dict[str, Any]) -> bool:
    """Whether a message has the name or the value of a wrong argument in it, or at least its type."""
    for name, value in wrong.items():
        made = eval(value, names)  # one of the values above
        parts = [made, *made] if isinstance(made, (list, tuple, dict, str)) and len(made) < 5 else [made]
        words = {name, name.replace("_", " "), name.replace("_", "-"), name.rstrip("s"), "\u2400"}
        words |= {word for part in parts for word in (repr(part)[:12], str(part)[:12], type(part).__name__) if word}
        if any(word in message for word in words):
            return True
    return False


def _tell(kind: str, signature: str, detail: str) -> int:
    print(f"{kind}\n{signature}\n{detail}")
    return 1


def check_properties(kind: str, text: str, rng: random.Random) -> int:
    """In the child: what holds of every tokenizer and every text."""
    tokenizer = names_for(kind)["tokenizer"]
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    stream = tokenizer.stream()
    again = type(tokenizer).from_state(tokenizer.state())
    cut = tokenizer.safe_cut(text)
    properties: dict[str, Callable[[], bool]] = {
        "decode(encode(text)) is text": lambda: whole == text or not _can_spell(tokenizer, text),
        "a stream joins to the whole": lambda: "".join([*map(stream.push, ids), stream.finish()]) == whole,
        "from_state(state()) encodes alike": lambda: (
            again.encode(text) == ids and again.fingerprint == tokenizer.fingerprint
        ),
        "a safe cut changes nothing": lambda: tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == ids,
        "ids are in the vocabulary": lambda: all(
            type(token) is int and 0 <= token < tokenizer.vocab_size for token in ids
        ),
        "encode_special is encode without names": lambda: "<" in text or tokenizer.encode_special(text) == ids,
        "by hand": lambda: kind != "bpe" or tokenizer.encode_by_hand(text) == ids,
    }
    for name, holds in properties.items():
        if not holds():
            return _tell("wrong", f"{kind}: {name}", repr(text))
    return 0


def _can_spell(tokenizer: Any, text: str) -> bool:
    """Whether no part of a text is unknown."""
    return bool(tokenizer.unknown_bits(text) == 0)


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=20_000)
