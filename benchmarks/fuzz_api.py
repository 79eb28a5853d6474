"""Call the Python interface with arguments of wrong types and values, and check properties on right ones.

    python benchmarks/fuzz_api.py [--cases 20000] [--seed 0] [--only N]

A wrong argument is answered with a UserError, TypeError or ValueError whose message names the argument or the value: never
with another exception, a result as if nothing were wrong, an endless loop or memory without bound. On right arguments,
texts come back from their ids, streams join to the whole, cuts change nothing, seeds repeat. Linux only.
"""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing import Finding, Result, Stage, check_folders, fuzz, normal
from fuzzing_child import Run
from fuzzing_seeds import make_seed

SEEDS = ("texts", "tokenizers", "run", "run-bpe")
ALLOWED = (TypeError, ValueError)  # a UserError is a ValueError


@dataclass(frozen=True)
class Kind:
    """A kind of argument: right values, and wrong ones that must not be taken as if they were right."""

    right: tuple[str, ...]
    wrong: tuple[str, ...]


JUNK = ("object()", "{}", "[]", "b'x'", "lambda: 0", "float('nan')", "...", "[None]", "{'a': 1}", "1j", "Exception", "np.zeros(0)")
NUMBER = ("'x'", "''", "[1]", *JUNK, "float('inf')", "'\\ud800'", "torch.ones(2)")
KINDS = {  # in Python, evaluated in the child; "ok" values are right but unusual
    "count": Kind(("1", "2", "5"), ("-1", "1.5", "-10**30", *NUMBER)),
    "seed": Kind(("0", "7", "2**31"), ("-1", "1.5", *NUMBER)),
    "share": Kind(("0.5", "0.9", "1", "1.0"), ("-0.1", "2", "10**400", *NUMBER)),
    "positive": Kind(("0.5", "1", "2.0"), ("-1", "-10**400", *NUMBER)),
    "flag": Kind(("True", "False"), ()),  # as in all of Python, anything is true or false
    "text": Kind(("'the cat'", "'the'", "'t'", "'the dog sat on the mat'[:8]"), ("5", "b'the'", "[]", "['the']", "object()", "{}", "1.5", "('t',)")),
    "stop": Kind(("'.'", "['.', 'x']", "[]"), ("5", "['']", "''", "[5]", "b'x'", "object()", "{'a': 1}")),
    "when": Kind(("'crop'", "'stop'"), ("'x'", "5", "None", "[]", "object()")),
    "ids": Kind(("[1, 2, 3]", "[0]", "(1, 2)", "range(3)", "np.array([1, 2])", "torch.tensor([1, 2])"),
                ("5", "[-1]", "[10**6]", "[2**70]", "['x']", "[None]", "[1.5]", "[[1]]", "'abc'", "None", "object()", "[float('nan')]",
                 "torch.ones(2)", "torch.ones(2, 2)", "{'a': 1}", "[True, 'x']", "iter(['x'])")),
    "path": Kind(("'run'", "Path('run')"), ("5", "None", "[]", "'missing'", "''", "b'run'", "object()", "'text.txt'", "'\\x00'", "'\\ud800'", "1.5",
                                              "'x' * 5000", "'~$x'")),
    "device": Kind(("'cpu'", "'auto'"), ("'x'", "5", "None", "'cuda:99999999999999999999'", "[]", "object()", "'CPU'", "''", "'cuda:-1'")),
    "model": Kind(("run.model",), ("None", "5", "'run'", "object()", "torch.nn.Linear(2, 2)", "run", "[]")),
    "run": Kind(("run",), ("None", "5", "'run'", "object()", "run.model")),
    "names": Kind(("'logits'", "['blocks.*.weights']", "['*']"), ("'x'", "['x']", "5", "None", "[5]", "object()", "'['", "['blocks.9.q']", "b'logits'")),
    "recipe": Kind(("'small.toml'", "Path('small.toml')", "'default'"), ("'missing'", "5", "None", "''", "'texts'", "'run'", "object()", "'text.txt'",
                                                                          "b'default'", "'\\x00'", "'~nobody/x'", "'/dev/zero'", "[]")),
    "overrides": Kind(("None", "{}", "{'training': {'max_steps': 3}}"),
                      ("5", "'x'", "[1]", "{'training': 5}", "{'training': {'max_steps': 'x'}}", "{'x': {}}", "{5: {}}", "{'model': {'n_inner': 10**25}}",
                       "{'training': {'max_steps': 10**400}}", "{'training': {'learning_rate': 10**400}}", "{'training': {'seed': float('nan')}}",
                       "{'data': {'source': [5]}}", "{'training': {'device': 'cuda:' + '9' * 20}}", "{'tokenizer': {'pattern': '('}}")),
    "config": Kind(("TrainingConfig(max_steps=2, device='cpu')",), ("None", "5", "{}", "{'max_steps': 2}", "object()", "'x'", "TrainingConfig")),
    "shape": Kind(("ModelConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=4, block_size=4)",),
                  ("None", "5", "{}", "object()", "ModelConfig()", "ModelConfig", "'gpt2'")),
    "array": Kind(("np.arange(50) % 7", "np.arange(50, dtype=np.uint16) % 7"),
                  ("5", "None", "[]", "'x'", "np.zeros(0)", "np.zeros((5, 5))", "np.ones(50) * 0.5", "np.array(['x'] * 50)", "object()",
                   "np.arange(1)", "torch.ones(50)")),
    "order": Kind(("'windows'", "'epochs'"), ("'x'", "5", "None", "[]")),
    "documents": Kind(("None", "np.array([0, 20])"), ("np.array([0, 99])", "np.array([20, 0])", "np.array([-5])", "'x'", "5", "np.array([0.5])", "[[0]]",
                                                          "object()")),
    "tokenizer": Kind(("char", "bpe", "word", "byte"), ()),
    "batches": Kind(("Batches(np.arange(50) % 5, 4, 2)",), ("None", "5", "[]", "object()", "'x'", "lambda n: None", "lambda n: (5, 5)",
                                                              "lambda n: (torch.ones(2, 4), torch.ones(2, 4))", "lambda n: (torch.zeros(2, 4).long(), )")),
    "state": Kind(("tokenizer.state()",), ("None", "5", "{}", "[]", "'x'", "{**tokenizer.state(), 'x': 1}", "dict.fromkeys(tokenizer.state())",
                                            "dict.fromkeys(tokenizer.state(), 5)", "dict.fromkeys(tokenizer.state(), [])", "dict.fromkeys(tokenizer.state(), 'x')",
                                            "dict.fromkeys(tokenizer.state(), {})", "dict.fromkeys(tokenizer.state(), ['x', 5])", "object()")),
    "out": Kind(("'made'", "Path('made')"), ("5", "None", "[]", "''", "'run'", "'missing/x\\x00'", "object()", "b'made'")),
    "mode": Kind(("'auto'", "'eager'"), ("'x'", "5", "None", "[]", "'graphs'")),
    "weights": Kind(("'float32'", "'int8'"), ("'x'", "5", "None", "[]")),
    "logprobs": Kind(("None", "0", "2"), ("-1", "'x'", "1.5", "[]", "object()", "10**30")),
    "sampling": Kind(("SamplingConfig(max_new_tokens=2)",), ("None", "5", "{}", "{'max_new_tokens': 2}", "object()")),
}  # fmt: skip
SAMPLING = {
    "max_new_tokens": "count",
    "temperature": "positive",
    "top_k": "count",
    "top_p": "share",
    "min_p": "share",
    "typical_p": "share",
    "repetition_penalty": "positive",
    "stop": "stop",
    "when_full": "when",
}
CALLS: dict[str, tuple[str, dict[str, str]]] = {  # what is called, and the kinds of its arguments; * may be left out
    "load": ("glassgpt.load({}).model", {"path": "path", "*device": "device"}),
    "generate": ("run.generate({})", {"*prompt": "text", "*seed": "seed", "*crop_prompt": "flag", "max_new_tokens": "count",
                                        **{f"*{name}": kind for name, kind in SAMPLING.items() if name != "max_new_tokens"}}),
    "stream": ("list(run.stream({}))", {"*prompt": "text", "*seed": "seed", "max_new_tokens": "count", "*stop": "stop"}),
    "pieces": ("list(run.pieces({}))", {"*prompt": "text", "*seed": "seed", "max_new_tokens": "count", "*logprobs": "logprobs"}),
    "engine": ("run.engine({}).step()", {"*slots": "count", "*mode": "mode", "*weights": "weights", "*block_size": "count",
                                           "*rotating": "flag", "*tokens": "count"}),
    "capture": ("glassgpt.capture({})", {"model": "model", "ids": "ids", "wanted": "names"}),
    "inspect_run": ("glassgpt.inspect_run({}, pictures=False)", {"run": "run", "prompt": "text", "out": "out", "*crop": "flag"}),
    "load_recipe": ("glassgpt.load_recipe({})", {"name": "recipe", "*overrides": "overrides"}),
    "make_model": ("glassgpt.make_model({})", {"config": "shape"}),
    "Trainer": ("list(glassgpt.Trainer({}))", {"model": "model", "batches": "batches", "config": "config"}),
    "TrainingConfig": ("glassgpt.TrainingConfig({})", {"max_steps": "count", "*learning_rate": "positive", "*seed": "seed", "*device": "device",
                                                        "*beta1": "share", "*batch_size": "count", "*epochs": "positive", "*max_seconds": "positive"}),
    "ModelConfig": ("glassgpt.ModelConfig({})", {"vocab_size": "count", "*n_layer": "count", "*n_head": "count", "*block_size": "count",
                                                  "*n_inner": "count", "*rope_base": "positive", "*bias": "flag", "*dropout": "share"}),
    "SamplingConfig": ("SamplingConfig({})", {f"*{name}": kind for name, kind in SAMPLING.items()}),
    "Batches": ("Batches({})(1)", {"ids": "array", "block_size": "count", "batch_size": "count", "*seed": "seed", "*order": "order", "*stride": "count",
                                    "*documents": "documents"}),
    "Windows": ("list(Windows({}))", {"ids": "array", "block_size": "count", "*batch_size": "count", "*max_tokens": "count", "*documents": "documents"}),
    "as_token_array": ("as_token_array({})", {"ids": "ids", "vocab_size": "vocab"}),
    "encode": ("tokenizer.encode({})", {"text": "text"}),
    "encode_special": ("tokenizer.encode_special({})", {"text": "text"}),
    "decode": ("tokenizer.decode({})", {"ids": "ids"}),
    "stream decoder": ("[tokenizer.stream().push(token) for token in {}]", {"ids": "ids"}),
    "from_state": ("type(tokenizer).from_state({})", {"state": "state"}),
    "load_tokenizer": ("load_tokenizer({})", {"path": "path"}),
    "tokenizer.save": ("tokenizer.save({})", {"path": "out"}),
    "CharTokenizer": ("CharTokenizer({})", {"characters": "text", "*unknown": "flag"}),
    "BPETokenizer": ("BPETokenizer(bpe.tokens, {})", {"*pattern": "pattern", "*special": "special"}),
    "Request": ("submit({})", {"prompt": "ids", "sampling": "sampling", "*seed": "seed", "*logprobs": "logprobs"}),
}  # fmt: skip
KINDS["vocab"] = Kind(("300", "1000"), ("0", "-1", "'x'", "None", "1.5"))
KINDS["pattern"] = Kind(("'gpt2'", "'gpt4'", "'\\\\w+|\\\\W'"), ("'('", "5", "None", "'(?:(?:(?:a{1000}){1000}){1000})'", "[]", "b'x'", "'*'"))
KINDS["special"] = Kind(("('<|x|>',)", "()", "['<|a|>', '<|b|>']"), ("5", "('',)", "[5]", "{'x': -1}", "{'x': 10**9}", "{'x': 'y'}", "('<|x|>', '<|x|>')", "None"))
STRINGS = ("the cat", "", " ", "\n\n", "a" * 3000, "naïve 東京 🎉", "\x00\x01", "\ud800", "\r\n", "e\u0301", "<|endoftext|>", "<unk>", " " * 2000, "'s'S\u2019s",
           "\u2028\u0085", "1234567890" * 30, "\U0010ffff", "İıſK", "the\udcff")  # fmt: skip


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
        findings.append(Finding(outcome.ended, f"{what.split('(')[0]}: {outcome.where}", f"{outcome.peak / 1e6:.0f} MB"))
    elif outcome.code not in (0, 2):
        said = outcome.stdout.decode("utf-8", "replace")
        kind, _, rest = said.partition("\n")
        findings.append(Finding(kind or "code", rest.partition("\n")[0] or f"exit {outcome.code}", rest + outcome.uncaught))
    if not findings:
        findings = check_folders(before, stage.look(), outcome.code, ["work/made"], ["work/made"])
    return Result(what, findings, [outcome.code], outcome.stdout.decode("utf-8", "replace"))


def make_call(rng: random.Random) -> tuple[str, dict[str, str], str]:
    """A call as Python, and which of its arguments are wrong."""
    name = rng.choice(list(CALLS))
    template, arguments = CALLS[name]
    given, wrong = {}, {}
    spoiled = rng.sample(list(arguments), min(len(arguments), rng.choice([0, 1, 1, 1, 2])))
    for argument, kind in arguments.items():
        bare = argument.removeprefix("*")
        if argument in spoiled and KINDS[kind].wrong:
            given[bare] = wrong[bare] = rng.choice(KINDS[kind].wrong)
        elif not argument.startswith("*") or rng.random() < 0.3:
            given[bare] = rng.choice(KINDS[kind].right)
    if "[" in template and "for token" in template or name in ("from_state", "load_tokenizer", "tokenizer.save"):
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


def check_call(call: str, wrong: dict[str, str], tokenizer: str) -> int:
    """In the child: make the call; 0 if it is taken, 2 if it is refused as it should, 1 and words on standard output else."""
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
        return _tell("wrong", f"{place} takes {', '.join(f'{name}={value}' for name, value in wrong.items())}", f"{result!r:.300}")
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
        "from_state(state()) encodes alike": lambda: again.encode(text) == ids and again.fingerprint == tokenizer.fingerprint,
        "a safe cut changes nothing": lambda: tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == ids,
        "ids are in the vocabulary": lambda: all(type(token) is int and 0 <= token < tokenizer.vocab_size for token in ids),
        "encode_special is encode without names": lambda: "<" in text or tokenizer.encode_special(text) == ids,
        "by hand": lambda: kind != "bpe" or tokenizer.encode_by_hand(text) == ids,
    }
    for name, holds in properties.items():
        if not holds():
            return _tell("wrong", f"{kind}: {name}", repr(text))
    return 0


def _can_spell(tokenizer: Any, text: str) -> bool:
    """Whether no part of a text is unknown."""
    return tokenizer.unknown_bits(text) == 0


if __name__ == "__main__":
    fuzz(__doc__, trial, make_seed, cases=20_000)
