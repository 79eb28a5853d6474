"""Valid inputs that fuzzers begin with: texts, tokenizers, prepared texts, recipes, runs; made when needed."""

import gzip
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import Stage
from fuzzing_checks import MARKER
from fuzzing_child import Run, command

TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 60
STORY = "".join(f"Line {n}: the {a} {b} quickly, and it's {n * 7} o'clock; naïve 東京 🎉\n" for n in range(90)
                for a, b in [(("fox", "dog", "bird")[n % 3], ("ran", "slept")[n % 2])])  # fmt: skip
SMALL = [
    *("--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "8", "--model.block-size", "8"),
    *("--training.max-steps", "6", "--training.eval-every", "3", "--training.batch-size", "2"),
    *("--training.log-every", "1", "--training.device", "cpu", "--training.warmup-steps", "1"),
    *("--training.eval-tokens", "100", "--training.checkpoint-every", "2", "--sampling.max-new-tokens", "4"),
    *("--training.precision", "float32"),
]
BLOCK = 2000
"""Characters in a block of `prepare`, instead of two million, so that small texts have several."""

RECIPE = """description = "small"
[data]
source = ["text.txt"]
[tokenizer]
kind = "char"
[model]
n_layer = 1
n_head = 2
n_embd = 8
block_size = 8
[training]
max_steps = 4
eval_every = 2
eval_tokens = 100
batch_size = 2
log_every = 1
device = "cpu"
precision = "float32"
learning_rate = 1e-2
[sampling]
max_new_tokens = 4
temperature = 0.5
"""


def small_blocks() -> None:
    """Let `prepare` read and work in blocks of `BLOCK` characters, and in one process."""
    import glassgpt.data.prepare as module
    import glassgpt.data.sources

    glassgpt.data.sources.CHUNK = BLOCK
    for name, value in (("BLOCK", BLOCK), ("usable_cores", lambda: 1)):
        setattr(module, name, value)


def make_seed(stage: Stage, name: str) -> None:
    """Make a valid input in the stage's working folder."""
    _MAKERS[name](stage)


def run_words(stage: Stage, *words: str, patch: Callable[[], None] | None = None, code: int = 0) -> None:
    """Run a command that must succeed."""

    def action() -> int:
        if patch is not None:
            patch()
        return command(list(words), stage.root / "case")

    outcome = stage.run(Run(action))
    if outcome.code != code:
        raise RuntimeError(f"{words}: exit {outcome.code}: {outcome.stderr.decode()} {outcome.uncaught}")


def _texts(stage: Stage) -> None:
    work = stage.work
    (work / "text.txt").write_text(TEXT, encoding="utf-8")
    (work / "story.txt").write_text(STORY, encoding="utf-8")
    (work / "marked.txt").write_text(STORY[:500] + MARKER + "[/x] [bold]" + STORY[500:2000], encoding="utf-8")
    rows = [{"text": line, "n": n} for n, line in enumerate(STORY.splitlines())]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (work / "rows.jsonl").write_text(lines, encoding="utf-8")
    (work / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (work / "text.txt.gz").write_bytes(gzip.compress(TEXT.encode(), mtime=0))
    (work / "texts" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.md", "sub/c.txt"):
        (work / "texts" / name).write_text(TEXT[:700], encoding="utf-8")
    (work / "texts" / "d.jsonl").write_text(lines[:300].rpartition("\n")[0] + "\n", encoding="utf-8")
    (work / "small.toml").write_text(RECIPE, encoding="utf-8")

    def pack() -> int:
        import pyarrow
        import pyarrow.parquet
        import zstandard

        Path("text.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(TEXT.encode()))
        pyarrow.parquet.write_table(pyarrow.table({"text": [row["text"] for row in rows]}), "rows.parquet")
        return 0

    assert stage.run(Run(pack)).code == 0


def _tokenizers(stage: Stage) -> None:
    stage.place(["texts"])
    for kind, more in (("bpe", ["--vocab-size", "300"]), ("word", []), ("char", ["--unknown"])):
        run_words(stage, "tokenizer", "train", "story.txt", "--kind", kind, "--out", f"{kind}.json", *more)
    run_words(stage, "tokenizer", "export", "bpe.json", "--out", "hf.json")
    _keep(stage, "bpe.json", "word.json", "char.json", "hf.json")


def _run(stage: Stage) -> None:
    stage.place(["texts"])
    run_words(stage, "train", "--data", "text.txt", "--out", "run", *SMALL, "--training.watch-gradients", "2")
    _keep(stage, "run")


def _run_bpe(stage: Stage) -> None:
    stage.place(["texts", "tokenizers"])
    more = [
        "--tokenizer.file",
        "bpe.json",
        "--model.position",
        "rotary",
        "--model.ngrams",
        "2",
        "--model.bias",
        "false",
    ]
    run_words(stage, "train", "--data", "story.txt", "--out", "run-bpe", *SMALL, *more)
    _keep(stage, "run-bpe")


def _run_bigram(stage: Stage) -> None:
    stage.place(["texts"])
    run_words(stage, "train", "--data", "marked.txt", "--out", "run-bigram", *SMALL, "--model.kind", "bigram")
    _keep(stage, "run-bigram")


def _stopped(stage: Stage) -> None:
    stage.place(["texts"])
    run_words(stage, "train", "--data", "text.txt", "--out", "stopped", *SMALL, patch=stop_at(5), code=130)
    _keep(stage, "stopped")


def stop_at(step: int) -> Callable[[], None]:
    """Press Ctrl-C at a step of training."""

    def patch() -> None:
        from glassgpt.training.trainer import Trainer

        original = Trainer._step

        def stepping(trainer: Any) -> Any:
            event = original(trainer)
            if event.step == step:
                signal.raise_signal(signal.SIGINT)
            return event

        Trainer._step = stepping  # type: ignore[assignment,method-assign]

    return patch


def _tokens(stage: Stage) -> None:
    stage.place(["texts"])
    run_words(stage, "prepare", "story.txt", "rows.jsonl", "--tokenizer", "byte", "--out", "tokens", patch=small_blocks)
    run_words(stage, "prepare", "text.txt", "--tokenizer", "char", "--out", "tokens-char", patch=small_blocks)
    _keep(stage, "tokens", "tokens-char")


def _partial(stage: Stage) -> None:
    """What is left of `prepare story.txt --tokenizer byte --out begun` that was killed after some blocks."""
    stage.place(["texts"])

    def killed() -> None:
        small_blocks()
        from glassgpt.data.prepare import _Job

        original = _Job.append

        def append(job: Any, encoded: Any) -> None:
            original(job, encoded)
            if job.blocks_done == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        _Job.append = append  # type: ignore[assignment,method-assign]

    run_words(stage, "prepare", "story.txt", "--tokenizer", "byte", "--out", "begun", patch=killed, code=-9)
    _keep(stage, ".begun.partial")


def _inspection(stage: Stage) -> None:
    stage.place(["texts", "run"])
    run_words(stage, "inspect", "run", "--prompt", "the", "--out", "inside", "--no-pictures")
    _keep(stage, "inside")


def _keep(stage: Stage, *names: str) -> None:
    """Leave only these in the working folder."""
    import shutil

    for path in stage.work.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


_MAKERS: dict[str, Callable[[Stage], None]] = {
    "texts": _texts,
    "tokenizers": _tokenizers,
    "run": _run,
    "run-bpe": _run_bpe,
    "run-bigram": _run_bigram,
    "stopped": _stopped,
    "tokens": _tokens,
    "partial": _partial,
    "inspection": _inspection,
}
