"""glassgpt train"""

import sys
from typing import IO, Annotated, Any, cast

from cyclopts import Parameter
from rich.console import Console

from glassgpt.cli.lookup import check_recipe
from glassgpt.cli.options import INTERRUPTED, FilePath, Repeated, RunPath
from glassgpt.cli.output import Unheard
from glassgpt.errors import UserError
from glassgpt.paths import expand


def train(
    recipe: str = "default",
    /,
    *,
    data: Annotated[list[str] | None, Repeated] = None,
    out: FilePath | None = None,
    resume: RunPath | None = None,
    checkpoint_every: str | None = None,
    watch_gradients: str | None = None,
    track: Annotated[list[str] | None, Repeated] = None,
    overrides: Annotated[dict[str, dict[str, Any]] | None, Parameter(parse=False)] = None,
) -> int:
    """Train a model by a recipe, or go on with a run.

    Any field of the recipe can be changed by its dotted name, such as --training.max-steps 500 --model.n-layer 2.

    Parameters
    ----------
    recipe
        A recipe's name (see `glassgpt recipes`) or a TOML file.
    data
        The text: a corpus by name, a file, a folder, - for standard input, or a folder made by `glassgpt prepare`. May
        come several times.
    out
        The run folder to make. Left out: runs/RECIPE, or the next free runs/RECIPE-N.
    resume
        Go on with the run in this folder, where it stopped.
    checkpoint_every
        Steps between checkpoints, or time, such as 5min (short for --training.checkpoint-every).
    watch_gradients
        Steps between looks at how gradients flow through the layers: RUN/gradients.jsonl, to be drawn by `glassgpt plot
        RUN --gradients` (short for --training.watch-gradients).
    track
        tensorboard or wandb: show the metrics there too (short for --training.track). May come several times; none
        ends it in a run that goes on.
    """
    changes: dict[str, dict[str, Any]] = overrides or {}
    for field, value in (("checkpoint_every", checkpoint_every), ("watch_gradients", watch_gradients)):
        if value is not None:
            changes.setdefault("training", {})[field] = None if value == "none" else value
    if track:
        changes.setdefault("training", {})["track"] = [] if track == ["none"] else track
    if data:
        changes.setdefault("data", {})["source"] = data
        if resume is None:
            _forget_old_text(data, changes)
    console = Console(file=cast(IO[str], Unheard(sys.stdout)))
    if resume is not None:
        if out is not None or recipe != "default":
            raise UserError(
                "--resume continues a run with its own recipe in its own folder: leave out RECIPE and --out"
            )
        from glassgpt.training import session

        return 0 if session.resume(resume, changes, console) else INTERRUPTED
    from glassgpt.recipes import load_recipe

    check_recipe(recipe)
    path = expand(recipe)
    if path.name == "recipe.toml":  # a run's own: the number of threads was chosen for that run
        changes.setdefault("training", {}).setdefault("threads", None)
    loaded = load_recipe(recipe, changes)
    from glassgpt.training import session

    # The run has the better name than its recipe.
    name = path.resolve().parent.name if path.name == "recipe.toml" else path.stem
    if out is not None:
        return 0 if session.train(loaded, out, console) else INTERRUPTED
    from glassgpt.runs import reserve

    with reserve(name or "run") as folder:
        return 0 if session.train(loaded, folder, console) else INTERRUPTED


def _forget_old_text(data: list[str], changes: dict[str, dict[str, Any]]) -> None:
    """Another text: what the recipe says of its own does not hold. A prepared one has a tokenizer and a split."""
    from glassgpt.data.tokens import TokenFolder, is_token_folder

    if is_token_folder(data[0]):
        if changes.get("tokenizer"):
            raise UserError("--tokenizer: a prepared text has its tokenizer: leave it out, or give the text itself")
        changes["data"].setdefault("val_fraction", TokenFolder(expand(data[0])).val_fraction)
        changes.setdefault("tokenizer", {})["file"] = None
    changes["data"].setdefault("sha256", None)
    changes.setdefault("tokenizer", {}).setdefault("fingerprint", None)
    changes.setdefault("sampling", {}).setdefault("prompt", None)
