"""What is said about a run: a line before it, and a table, a sample and what to do next after it."""

import platform
import warnings
from collections.abc import Sequence
from statistics import median

import torch
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import glassgpt
from glassgpt.data.tokens import Measure, Tokens
from glassgpt.errors import printable, reason
from glassgpt.files import write_json, write_text
from glassgpt.model.sizing import sizes
from glassgpt.paths import as_word
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder, read_metrics
from glassgpt.runs.schemas import Judgement, MetricsRow, Summary
from glassgpt.threads import in_force
from glassgpt.tokenizers import Tokenizer
from glassgpt.training.advice import commands_to_try
from glassgpt.training.curves import draw_curves
from glassgpt.training.evaluation import Score
from glassgpt.training.trainer import Trainer


def print_header(console: Console, recipe: Recipe, trainer: Trainer, folder: RunFolder) -> None:
    """Say what is about to be trained, on what, where."""
    model, source = recipe.model, escape(printable(", ".join(recipe.data.source)))
    into = escape(printable(str(folder.path)))
    shape = (
        f"{model.n_layer} layers, {model.n_head} heads, width {model.n_embd}, " if model.kind == "gpt" else "bigram, "
    )
    threads = f", {in_force()}" if trainer.device.type == "cpu" else ""
    number_format = str(trainer.dtype).removeprefix("torch.")
    console.print(
        f"[bold]glassgpt[/] {glassgpt.__version__}  {sizes(model).parameters:,} parameters ({shape}context "
        f"{model.block_size})  {recipe.tokenizer.kind} tokens, {model.vocab_size} of them",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"text: {source}   on: {trainer.device}{threads}, {number_format}   into: {into}",
        highlight=False,
        soft_wrap=True,
    )


def write_summary(
    folder: RunFolder,
    recipe: Recipe,
    trainer: Trainer,
    score: Score,
    baseline: Score,
    measure: Measure,
    text: Tokens,
) -> Summary:
    """Write summary.json, summary.md and curves.png; return the first's content.

    A picture that cannot be drawn is a warning: the figures are there, and `glassgpt plot` draws it later.

    Args:
        folder: of the run.
        recipe: of the run.
        trainer: at its end.
        score: of the best weights.
        baseline: the bigram model's score on the same text.
        measure: of the text that both are about.
        text: that was trained on.
    """
    rows = read_metrics(folder.metrics)
    progress = trainer.progress

    def figures(score: Score) -> Judgement:
        return {
            "loss": score.loss,
            "bits_per_byte": measure.bits_per_byte(score.loss),
            "perplexity": score.perplexity,
        }

    summary: Summary = {
        "description": recipe.description,
        "evaluated_on": _judged_text(recipe),
        **figures(score),
        "evaluated_tokens": score.tokens,
        "evaluated_bytes": measure.bytes,
        "bigram": figures(baseline),
        "best_step": progress.best_step or progress.step,
        "steps": progress.step,
        "skipped_steps": progress.skipped,
        "tokens": progress.tokens,
        "bytes_per_token": text.bytes_per_token,
        "training_seconds": round(progress.seconds, 2),
        "tokens_per_second": _usual_speed(rows, progress.tokens / max(progress.seconds, 1e-9)),
        "parameters": sizes(recipe.model).parameters,
        "vocab_size": recipe.model.vocab_size,
        "tokenizer": recipe.tokenizer.kind,
        "stop_reason": trainer.stop_reason or "finished",
        "device": str(trainer.device),
        "precision": str(trainer.dtype).removeprefix("torch."),
        "versions": {
            "glassgpt": glassgpt.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    write_text(folder.summary_table, _markdown(summary))
    title = f"{summary['parameters']:,} parameters, {summary['training_seconds']:,.0f} s of training"
    try:
        draw_curves(rows, folder.curves, title=title, bits_per_byte=measure.bits_per_byte, bigram_loss=baseline.loss)
    except Exception as error:  # whatever a library raises that is set up badly here
        again = f"glassgpt plot {as_word(folder.path)}"
        warnings.warn(f"{folder.curves}: not drawn: {reason(error)}; to draw it later: {again}", stacklevel=2)
    write_json(folder.summary, summary)  # last: with it, the run is finished
    return summary


def _judged_text(recipe: Recipe) -> str:
    if not recipe.data.val_fraction:
        return "the training text"
    return "the validation text" if recipe.training.eval_tokens is None else "a sample of the validation text"


def _usual_speed(rows: Sequence[MetricsRow], otherwise: float) -> float:
    """The median over the lines of the metrics file, so that compiling and warming up do not count."""
    speeds = [speed for row in rows if (speed := row.get("tokens_per_second")) is not None]
    return round(median(speeds) if speeds else otherwise, 1)


def print_result(
    console: Console, recipe: Recipe, folder: RunFolder, summary: Summary, tokenizer: Tokenizer, sample: str
) -> None:
    """Show the figures, a sample (it begins with its prompt), and what to do next."""
    table = Table(title=f"loss on {summary['evaluated_on']}", title_justify="left", title_style="bold")
    for name in ("", "nats/token", "bits/byte", "perplexity"):
        table.add_column(name, justify="right" if name else "left")
    judged: list[tuple[str, Judgement | None]] = [("this model", summary), ("bigram baseline", summary["bigram"])]
    for name, row in judged:
        assert row is not None
        table.add_row(name, f"{row['loss']:.4f}", f"{row['bits_per_byte']:.4f}", f"{row['perplexity']:.2f}")
    console.print(table)
    skipped = f" ({summary['skipped_steps']:,} skipped)" if summary["skipped_steps"] else ""
    console.print(
        f"{summary['steps']:,} steps{skipped}, {summary['tokens']:,} tokens in {summary['training_seconds']:.1f} s of "
        f"training ({summary['tokens_per_second']:,.0f} tokens/s); best weights at step {summary['best_step']:,}; "
        f"{summary['stop_reason']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if sample:
        text = Text(printable(sample.strip("\n")))
        console.print(Panel(text, title="a sample", title_align="left", border_style="dim"))
    where = printable(f"curves: {folder.curves}   samples: {folder.samples}")
    console.print(where, highlight=False, markup=False, soft_wrap=True)
    console.print("try next:")
    for command in commands_to_try(folder, recipe, tokenizer, sample):
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)


def _markdown(summary: Summary) -> str:
    """The summary as a table that reads well on a code-hosting page."""
    assert summary["bigram"] is not None
    rows = {
        "loss, nats/token": f"{summary['loss']:.4f} ({summary['evaluated_on']})",
        "bits/byte": f"{summary['bits_per_byte']:.4f}",
        "perplexity": f"{summary['perplexity']:.3f}",
        "bigram baseline, nats/token": f"{summary['bigram']['loss']:.4f}",
        "parameters": f"{summary['parameters']:,}",
        "tokens seen": f"{summary['tokens']:,}",
        "steps": f"{summary['steps']:,} (best at {summary['best_step']:,}, {summary['skipped_steps']:,} skipped)",
        "training time": f"{summary['training_seconds']:.1f} s",
        "speed": f"{summary['tokens_per_second']:,.0f} tokens/s",
        "device": f"{summary['device']}, {summary['precision']}",
        "ended": summary["stop_reason"],
    }
    cells = {name: " ".join(printable(value).split()).replace("|", "\\|") for name, value in rows.items()}
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in cells.items())
