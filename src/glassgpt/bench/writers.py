"""Who writes text in a comparison: glassgpt and transformers, each behind the same one method."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from glassgpt.bench.training import THEIRS, import_transformers
from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.decoder import Mode, Weights
from glassgpt.generation.engine import Engine, Request
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT

MANY = 1_000_000  # tokens: a measurement, like a server, asks for so many that compiling is worth its while
GPT2_NAMES = {  # of the tensors outside the blocks, then of those in each
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "final_norm": "transformer.ln_f",
    "norm_1": "ln_1",
    "attn.qkv": "attn.c_attn",
    "attn.proj": "attn.c_proj",
    "norm_2": "ln_2",
    "mlp.fc": "mlp.c_fc",
    "mlp.proj": "mlp.c_proj",
}


@dataclass(frozen=True)
class Written:
    """What a call wrote, and how long it took.

    Attributes:
        ids: the new ones of each prompt.
        first_seconds: until every prompt had been read and had its first new token.
        rest_seconds: for all other tokens.
    """

    ids: list[list[int]]
    first_seconds: float
    rest_seconds: float

    @property
    def rest_tokens(self) -> int:
        """How many were written in `rest_seconds`."""
        return sum(len(row) - 1 for row in self.ids)


class Writer(Protocol):
    """A side of the comparison.

    Attributes:
        name: what it is called.
        weight_bytes: that an entry of a weight matrix takes in memory.
        cache_bytes: that a number in the cache of keys and values takes.
    """

    name: str
    weight_bytes: float
    cache_bytes: float

    @property
    def how(self) -> str:
        """The number format of its matrices, and what it chose for itself."""
        ...

    def write(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Written:
        """Continue each prompt, all of one length, by so many of the likeliest tokens, all prompts at once."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Glassgpt:
    """The engine that `glassgpt generate` uses: one for a single prompt, another for several at once."""

    name = "glassgpt"
    cache_bytes = 4.0

    def __init__(
        self,
        model: GPT,
        *,
        mode: Mode = "auto",
        weights: Weights = "float32",
        tell: Callable[[str], None] = lambda _: None,
    ):
        self.weight_bytes = {"float32": 4.0, "int8": 1.0}[weights]
        self._model, self._mode, self._weights, self._tell = model.eval(), mode, weights, tell
        self._engines: dict[int, Engine] = {}

    def write(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Written:
        """See `Writer`."""
        engine = self._engine(len(prompts))
        sampling = SamplingConfig(temperature=0, max_new_tokens=new_tokens)
        began = time.perf_counter()
        rows = {engine.add(Request(list(prompt), sampling)): row for row, prompt in enumerate(prompts)}
        ids: list[list[int]] = [[] for _ in prompts]
        first = began
        while not engine.is_idle:
            for produced in engine.step():
                ids[rows[produced.ticket]].append(produced.id)
            if first == began and all(ids):
                first = time.perf_counter()
        return Written(ids, first - began, time.perf_counter() - first)

    @property
    def how(self) -> str:
        """The engine says how it takes its steps once it is there."""
        modes = dict.fromkeys(engine.mode for engine in self._engines.values())
        return " ".join((self._weights, *modes))

    def close(self) -> None:
        """See `Writer`."""
        self._engines.clear()

    def _engine(self, slots: int) -> Engine:
        if slots not in self._engines:
            self._engines[slots] = Engine(
                self._model, slots=slots, mode=self._mode, weights=self._weights, tokens=MANY, tell=self._tell
            )
        return self._engines[slots]


class Transformers:
    """transformers' GPT-2 with its own cache, in the loop that its `generate` has at the core, in float32."""

    name, how = THEIRS, "float32"
    weight_bytes = cache_bytes = 4.0

    def __init__(self, model: GPT):
        transformers = import_transformers()
        shape = model.config
        gpt2 = transformers.GPT2LMHeadModel(  # with tensors: some versions have others than weights, which are kept
            transformers.GPT2Config(
                vocab_size=shape.vocabulary,
                n_positions=shape.block_size,
                n_embd=shape.n_embd,
                n_layer=shape.n_layer,
                n_head=shape.n_head,
                layer_norm_epsilon=shape.norm_eps,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        self._device = model.token_embedding.weight.device
        gpt2.load_state_dict(gpt2_weights(model), strict=False, assign=True)
        gpt2.tie_weights()
        self._model: nn.Module = gpt2.to(self._device).eval()

    @torch.inference_mode()
    def write(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Written:
        """See `Writer`."""
        began = time.perf_counter()
        out: Any = self._model(torch.tensor(prompts, device=self._device), use_cache=True, logits_to_keep=1)
        new = [self._likeliest(out)]
        first = time.perf_counter()
        while len(new) < new_tokens:
            cache = "cache" if "cache" in out else "past_key_values"  # its name since transformers 5.24, and before
            out = self._model(new[-1], **{cache: out[cache]}, use_cache=True, logits_to_keep=1)
            new.append(self._likeliest(out))
        return Written(torch.cat(new, dim=1).tolist(), first - began, time.perf_counter() - first)

    def close(self) -> None:
        """See `Writer`."""

    def _likeliest(self, out: Any) -> Tensor:
        """(B, 1). It is waited for, as whoever shows or checks each token does."""
        ids: Tensor = out.logits[:, -1].argmax(dim=-1, keepdim=True)
        if self._device.type != "cpu":
            ids.sum().item()
        return ids


def gpt2_weights(model: GPT) -> dict[str, Tensor]:
    """The weights of a model of GPT-2's architecture by the names, and as the matrices, of transformers' GPT-2.

    Its matrices are there as (in, out).
    """
    found = {}
    for name, weight in model.state_dict().items():
        block, number, rest = "", "", name
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            block = f"transformer.h.{number}."
        ours = next(key for key in GPT2_NAMES if rest.startswith(key))
        is_matrix = bool(block) and weight.dim() == 2
        found[block + GPT2_NAMES[ours] + rest.removeprefix(ours)] = weight.t().contiguous() if is_matrix else weight
    return found


def check_is_gpt2(config: ModelConfig) -> None:
    """That the others have this architecture, too.

    Raises:
        UserError: it is another than GPT-2's.
    """
    shape = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "norm_eps", "attention", "init_std")
    gpt2 = ModelConfig(**{field: getattr(config, field) for field in shape}, activation="gelu_tanh")
    different = [field for field, value in config.model_dump().items() if value != getattr(gpt2, field)]
    if different:
        raise UserError(f"--against: the others have GPT-2's architecture alone: leave out model.{different[0]}")
