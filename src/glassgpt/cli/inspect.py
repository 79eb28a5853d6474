"""glassgpt inspect"""

from typing import Annotated

from glassgpt.cli.options import FilePath, Prompt, RunPath, Switch
from glassgpt.cli.output import say


def inspect(
    run: RunPath,
    /,
    *,
    prompt: Prompt,
    out: FilePath,
    crop_prompt: Annotated[bool, Switch] = False,
    no_pictures: Annotated[bool, Switch] = False,
    device: str = "auto",
) -> None:
    """See what a trained model does with a text: attention, the logit lens, surprise.

    Writes one page to explore it with in any browser (page.html, which needs no network), pictures as PNG and SVG, and
    the data behind them as CSV and JSON.

    Parameters
    ----------
    run
        A run folder.
    prompt
        The text to look at.
    out
        The folder to write: new, empty, or of an earlier inspection, which is replaced.
    crop_prompt
        Look only at the end of a text that is longer than the model's context, instead of refusing it.
    no_pictures
        Only the page and the data.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from glassgpt.inspection.report import inspect_run
    from glassgpt.runs import load
    from glassgpt.threads import settle

    settle(device)

    summary = inspect_run(load(run, device), prompt, out, crop=crop_prompt, pictures=not no_pictures)
    folders = [path.parts[0] for path in summary.files if len(path.parts) > 1]
    size = f"{summary.page_bytes / 1e6:.1f} MB" if summary.page_bytes >= 1e6 else f"{summary.page_bytes / 1e3:.0f} kB"
    tokens = f"{summary.tokens} token{'' if summary.tokens == 1 else 's'}"
    say(f"{out / 'page.html'}: {size}, {tokens}: open it in a browser")
    for folder in dict.fromkeys(folders):
        say(f"{out / folder}: {folders.count(folder)} files")
    for what in summary.left_out:
        say(f"left out: {what}")
