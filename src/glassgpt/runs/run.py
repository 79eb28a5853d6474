"""A trained model with all that belongs to it."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from glassgpt.runs.folder import RunFolder, read_metrics, read_summary
from glassgpt.runs.schemas import MetricsRow, Summary
from glassgpt.tensor_files import load_tensors

if TYPE_CHECKING:
    from torch import nn

    from glassgpt.generation.engine import Engine
    from glassgpt.generation.text import Generation, Piece


class Run:
    """A trained model with all that belongs to it.

    Attributes:
        folder: where its files are.
        recipe: what it was made from, complete.
        tokenizer: the one it was trained with.
        engine_options: how it decodes, such as `mode` and `weights` of `generation.engine.Engine`; to be set before the
            first text.
    """

    def __init__(self, path: Path | str, device: str = "auto"):
        self.folder = RunFolder(path)
        self.recipe = self.folder.read_recipe()
        self.tokenizer = self.folder.read_tokenizer(self.recipe)
        self._device = device
        self.engine_options: dict[str, Any] = {}
        self._engines: dict[bool, list[Engine]] = {}  # that are free, those that rotate and those that do not
        vocab_size = self.recipe.model.vocab_size
        if vocab_size is None or vocab_size < self.tokenizer.vocab_size:
            raise UserError(
                f"{self.folder.path}: damaged: tokenizer of {self.tokenizer.vocab_size} entries, model of {vocab_size}"
            )

    @cached_property
    def model(self) -> "nn.Module":
        """The model with its best weights, on the device, ready to evaluate. Loaded when first asked for.

        Raises:
            UserError: the weights are missing, damaged, or not this model's.
        """
        from glassgpt.device import choose_device
        from glassgpt.model import make_model

        device = choose_device(self._device)
        model = make_model(self.recipe.model)
        weights = load_tensors(self.folder.weights)
        try:
            model.load_state_dict(weights)
        except RuntimeError:
            raise UserError(f"{self.folder.weights}: not the weights of the model in {self.folder.recipe}") from None
        return model.to(device).eval()

    def use_int8(self) -> None:
        """From here on, take the model's matrices in 8 bits: see `generation.linear.Int8`.

        Raises:
            UserError: it is no GPT.
        """
        from glassgpt.generation.linear import Int8, with_linears
        from glassgpt.model.gpt import GPT

        if not isinstance(self.model, GPT):
            raise UserError(f"{self.folder.path}: weights int8: only for a GPT")
        self.model = with_linears(self.model, lambda linear: None if isinstance(linear, Int8) else Int8(linear))
        self._engines.clear()

    @property
    def block_size(self) -> int:
        """The most tokens that the model looks at."""
        return self.recipe.model.block_size

    def metrics(self) -> list[MetricsRow]:
        """The lines of the metrics file."""
        return read_metrics(self.folder.metrics)

    def summary(self) -> Summary:
        """The summary that training wrote at its end.

        Raises:
            UserError: there is none yet, or it is damaged.
        """
        summary = read_summary(self.folder)
        if summary is None:
            raise UserError(f"{self.folder.summary}: no such file: training writes it at its end")
        return summary

    def generate(self, prompt: str | None = None, *, seed: int = 0, crop_prompt: bool = False, **sampling: Any) -> str:
        """Write text after a prompt.

        Args:
            prompt: left out: the recipe's.
            seed: the same seed gives the same text.
            crop_prompt: look only at the end of a prompt longer than the block, instead of refusing it.
            **sampling: `max_new_tokens`, `temperature`, `top_k`, `top_p`, `min_p`, `typical_p`, `repetition_penalty`,
                `stop`, `when_full`; those left out are the recipe's.

        Returns:
            The new text, without the prompt.

        Raises:
            UserError: an unknown or impossible setting, or an impossible prompt.
        """
        return "".join(self.stream(prompt, seed=seed, crop_prompt=crop_prompt, **sampling))

    def stream(
        self, prompt: str | None = None, *, seed: int = 0, crop_prompt: bool = False, **sampling: Any
    ) -> "Generator[str, None, Generation]":
        """The same as `generate`, as it comes."""
        from glassgpt.generation.text import texts

        return texts(self.pieces(prompt, seed=seed, crop_prompt=crop_prompt, **sampling))

    def pieces(
        self,
        prompt: str | None = None,
        *,
        seed: int = 0,
        crop_prompt: bool = False,
        logprobs: int | None = None,
        engine: "Engine | None" = None,
        **sampling: Any,
    ) -> "Generator[Piece, None, Generation]":
        """The same, token by token, with log-probabilities if they are asked for (see `generation.engine.Request`)."""
        from glassgpt.generation.text import stream_pieces

        config = self.sampling(**sampling)
        settings: dict[str, Any] = {"seed": seed, "crop_prompt": crop_prompt, "logprobs": logprobs}
        with nullcontext(engine) if engine else self._free_engine(rotating=config.when_full == "rotate") as writer:
            return (yield from stream_pieces(writer, self.tokenizer, self.prompt(prompt), config, **settings))

    def engine(self, **options: Any) -> "Engine":
        """What continues prompts: see `generation.engine.Engine`.

        Options left out are those in `engine_options`.
        """
        from glassgpt.generation.engine import Engine

        sizes = {"block_size": self.block_size, "vocab_size": self.tokenizer.vocab_size}
        return Engine(self.model, **{**sizes, **self.engine_options, **options})

    def warm_up(self) -> None:
        """Make ready to write, compiling included, so that the first text need not wait."""
        with self._free_engine(rotating=False):
            pass

    @contextmanager
    def _free_engine(self, *, rotating: bool) -> "Iterator[Engine]":
        """One for each text that is being written, kept for the next: it remembers what it has read."""
        free = self._engines.setdefault(rotating, [])
        try:
            engine = free.pop()
        except IndexError:
            engine = self.engine(rotating=rotating)
        try:
            yield engine
        finally:
            free.append(engine)

    def sampling(self, **changes: Any) -> SamplingConfig:
        """The recipe's sampling with some settings changed."""
        return self.recipe.sampling.replace(**changes)

    def prompt(self, prompt: str | None) -> str:
        """The prompt, or the recipe's if there is none."""
        return prompt if prompt is not None else self.recipe.sampling.prompt or "\n"


def load(path: Path | str, device: str = "auto") -> Run:
    """Open a run folder.

    Args:
        path: what `glassgpt train` made.
        device: where the model goes: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: it is no run folder, or a damaged one.
    """
    return Run(path, device)
