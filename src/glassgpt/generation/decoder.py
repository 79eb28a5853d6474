"""A model made ready to write: it reads prompts row by row, then takes one token of every row at a time.

Three ways to take a step, of the same model and the same memory: as it is (eager), compiled for one row (CPU), and as a
captured graph (CUDA).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError, show
from glassgpt.generation.compiling import CompiledRows, can_compile, package_path
from glassgpt.generation.graphs import GraphSteps
from glassgpt.generation.linear import Int8, Int8Steps, Packed, with_linears
from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.gpt import GPT
from glassgpt.model.positions import Rotation, rotary_table
from glassgpt.model.sizing import sizes

Mode = Literal["auto", "eager", "compiled", "graphs"]
Weights = Literal["float32", "int8"]
WINDOW = 16  # slots: rows are looked at in steps of so many, which keeps shapes alike and addresses aligned
SMALL = 2**23  # parameters, times rows: up to here, rows are faster one after the other, compiled, than together
WORTH_COMPILING = 20_000  # tokens: from here, half a minute of compiling is won back on two cores


class Decoder:
    """A GPT with room for some sequences.

    Args:
        model: stays as it is, and its weights where they are; with `int8`, a copy of them is made.
        rows: sequences at a time.
        mode: how to take a step. auto: captured on CUDA; compiled where that has been done before or `tokens` is large
            enough to pay for it; else as it is.
        weights: int8 for the linear layers' matrices in 8 bits.
        rotating: whether rows may go on past the block, the oldest tokens being written over; needs rotary positions.
        tokens: how many are likely to be asked for.
        tell: is told which way is taken, and what there is to wait for.

    Attributes:
        mode: the one that was taken.
        can_share: whether a row can begin with what another one holds.
        tokens: of each row, all that it has read.
        positions: of each row, where its next token stands; the length of `tokens`, unless the row has gone on past the
            block.
        device: of the model.
        apart: up to so many rows take a compiled step one after the other; more go through the model together.

    Raises:
        UserError: the mode is not possible here.
    """

    can_share = True

    def __init__(
        self,
        model: GPT,
        rows: int = 1,
        *,
        mode: Mode = "auto",
        weights: Weights = "float32",
        rotating: bool = False,
        tokens: int = 0,
        tell: Callable[[str], None] = lambda _: None,
    ):
        self.block_size, self.rows = model.config.block_size, rows
        weight = model.token_embedding.weight
        self.device = weight.device
        # One slot more than the block: rows that are not in use write there, so that they lose nothing.
        self._store = KVCache(model.config, rows, length=self.block_size + 1, device=weight.device, dtype=weight.dtype)
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.positions = [0] * rows
        self._seen = torch.arange(self.block_size, device=self.device)
        self._last_ids = self._store.last_ids.clone()
        self._looks_back = self._last_ids.shape[1] > 0
        plain = with_linears(model, _to_int8 if weights == "int8" else lambda _: None).eval()
        if rotating:
            plain.rotations = _longer_table(plain)
        self.mode, self._compiled = self._choose(plain, mode, tokens, tell)
        self._model = with_linears(plain, lambda linear: Packed(linear) if Packed.suits(linear) else None)
        self.apart, self._together = max(2, SMALL // sizes(model.config).parameters), self._model
        if self.device.type == "cpu" and any(isinstance(module, Int8) for module in plain.modules()):
            # Compiled and together they are rounded differently, and no text may depend on how many run beside it.
            self.apart = rows
            self._together = with_linears(plain, lambda linear: Int8Steps(linear) if Int8Steps.suits(linear) else None)
        self._graphs = GraphSteps(self._model, self._store) if self.mode == "graphs" else None

    def _choose(
        self, model: GPT, mode: Mode, tokens: int, tell: Callable[[str], None]
    ) -> tuple[Mode, CompiledRows | None]:
        """The way to take a step, and the compiled one, if it is that."""
        is_cuda, possible = self.device.type == "cuda", can_compile(model)
        if mode == "graphs" and not is_cuda:
            raise UserError("mode graphs: only on a CUDA device: take eager or compiled")
        if mode == "compiled" and not possible:
            raise UserError(
                "mode compiled: takes a CPU, weights in float32, and a C++ compiler (g++ or clang): take eager"
            )
        if mode == "graphs" or (mode == "auto" and is_cuda):
            tell("decoding with CUDA graphs")
            return "graphs", None
        may_compile = mode == "compiled" or tokens >= WORTH_COMPILING
        # (Unlike Path.exists, False if the cache cannot be looked at.)
        pays = mode == "auto" and possible and (may_compile or os.path.exists(package_path(model)))  # noqa: PTH110
        if mode == "compiled" or pays:
            try:
                compiled = CompiledRows(model, self._store, self._last_ids, tell, may_compile=may_compile)
                tell("decoding with the compiled model")
                return "compiled", compiled
            except UserError as error:
                if mode == "compiled":
                    raise
                tell(str(error))
        tell(
            "decoding as it is"
            + (" (compiled, it would be faster: --mode compiled)" if possible and mode == "auto" else "")
        )
        return "eager", None

    @torch.inference_mode()
    def read(self, row: int, tokens: Sequence[int], *, keep: int = 0) -> Tensor:
        """Begin a row anew with a prompt.

        Args:
            tokens: at least one, at most a block.
            keep: of these, how many the row holds already; less than all.

        Returns:
            The logits of what comes next, (V,).
        """
        assert 0 <= keep < len(tokens) <= self.block_size and list(tokens[:keep]) == self.tokens[row][:keep]
        self.tokens[row], self.positions[row] = self.tokens[row][:keep], keep  # if this is interrupted
        cache = self._store.row(row)
        cache.length, cache.last_ids = keep, self._last_of(tokens[:keep])
        ids = torch.tensor([tokens[keep:]], device=self.device)
        logits: Tensor = self._model(ids, cache, only_last=True)
        self.tokens[row], self.positions[row] = list(tokens), len(tokens)
        self._last_ids[row] = cache.last_ids[0]
        return logits[0, -1].float()

    def _last_of(self, tokens: Sequence[int]) -> Tensor:
        """The last ids that n-grams look back at, (1, ngrams - 1)."""
        reach = self._last_ids.shape[1]
        nothing = self._store.row(0).last_ids
        known = torch.tensor([tokens[-reach:] if reach else []], dtype=torch.int64, device=self.device)
        return torch.cat((nothing, known), dim=1)[:, known.shape[1] :]

    def step(self, tokens: dict[int, int]) -> Tensor:
        """Take one token of some rows, none of which is full unless it is `rotating`.

        Args:
            tokens: by row.

        Returns:
            Logits (B, V), B being the highest of these rows and one; those of other rows mean nothing.
        """
        for row in tokens:
            if self.positions[row] >= 2 * self.block_size:
                self._turn_back(row)
        if self._compiled is not None and len(tokens) <= self.apart:
            logits, newest = self._step_apart(self._compiled, tokens)
        else:
            logits, newest = self._step_together(tokens)
        for row, token in tokens.items():  # only now: a step that fails can be taken again
            self.tokens[row].append(token)
            self.positions[row] += 1
            if self._looks_back:
                self._last_ids[row] = newest[row]
        return logits

    def _step_apart(self, compiled: CompiledRows, tokens: dict[int, int]) -> tuple[Tensor, dict[int, Tensor]]:
        """One row after the other: logits (B, V), and the last ids by row."""
        found, newest = {}, {}
        for row, token in tokens.items():
            position = self.positions[row]
            inputs = (row, token, position, position % self.block_size, self._reach(position))
            found[row], newest[row] = compiled(*inputs)
        if list(found) == [0]:
            return found[0], newest
        nothing = torch.zeros_like(next(iter(found.values())))
        return torch.cat([found.get(row, nothing) for row in range(max(found) + 1)]), newest

    @torch.inference_mode()
    def _step_together(self, tokens: dict[int, int]) -> tuple[Tensor, dict[int, Tensor]]:
        """All rows at once, those below the highest one that are not in use included. Returns the same."""
        B = max(tokens) + 1
        ids, positions, slots = [0] * B, [0] * B, [self.block_size] * B
        for row, token in tokens.items():
            ids[row], positions[row], slots[row] = token, self.positions[row], self.positions[row] % self.block_size
        numbers = torch.tensor([ids, positions, slots], device=self.device)
        last_ids = self._last_ids[:B]
        if self._graphs is not None:
            logits, newest = self._graphs(numbers, last_ids)
        else:
            keys, values = [k[:B] for k in self._store.keys], [v[:B] for v in self._store.values]
            cache = RowsCache(keys, values, numbers[1], numbers[2], self._seen[: self._reach(max(positions))], last_ids)
            logits, newest = self._together(numbers[0, :, None], cache)[:, -1], cache.last_ids
        return logits.float(), {row: newest[row] for row in tokens} if self._looks_back else {}

    def _reach(self, position: int) -> int:
        """How many slots to look at for the token at a position: those up to it, and some more."""
        return min(-(-(position + 1) // WINDOW) * WINDOW, self.block_size)

    def copy(self, source: int, row: int, length: int) -> None:
        """Let a row hold the first tokens of another one, which is not past its block."""
        self.tokens[row], self.positions[row] = [], 0  # if this is interrupted
        for tensors in (self._store.keys, self._store.values):
            for tensor in tensors:
                tensor[row, :, :length] = tensor[source, :, :length]
        self.tokens[row], self.positions[row] = self.tokens[source][:length], length

    @torch.inference_mode()
    def _turn_back(self, row: int) -> None:
        """Move a row that has gone round twice one block nearer to the beginning: angles between its tokens stay."""
        cos, sin = self._model.rotations[:, self.block_size]
        back = Rotation(cos, -sin, self._model.config.rope_pairing)
        for keys in self._store.keys:
            keys[row : row + 1] = back(keys[row : row + 1])
        self.positions[row] -= self.block_size


class Recomputing:
    """The same for any module from ids (B, T) to logits (B, T, V), which reads everything again for each token."""

    mode: Mode = "eager"
    can_share = False

    def __init__(self, model: nn.Module, rows: int, block_size: int):
        self.block_size, self.rows, self._model = block_size, rows, model
        parameter = next(model.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.positions = [0] * rows

    @torch.inference_mode()
    def read(self, row: int, tokens: Sequence[int], *, keep: int = 0) -> Tensor:
        """As `Decoder.read`."""
        self.tokens[row], self.positions[row] = list(tokens), len(tokens)
        logits: Tensor = self._model(torch.tensor([tokens], device=self.device))
        return logits[0, -1].float()

    def step(self, tokens: dict[int, int]) -> Tensor:
        """As `Decoder.step`."""
        found = {row: self.read(row, [*self.tokens[row], token]) for row, token in tokens.items()}
        nothing = torch.zeros_like(next(iter(found.values())))
        return torch.stack([found.get(row, nothing) for row in range(max(tokens) + 1)])

    def copy(self, source: int, row: int, length: int) -> None:
        """There is nothing to copy."""


def make_decoder(model: nn.Module, rows: int, block_size: int | None, **options: Any) -> Decoder | Recomputing:
    """The decoder that suits a model.

    Raises:
        UserError: it is no model, or how much it can look at is not known; or as `Decoder`.
    """
    if isinstance(model, GPT):
        return Decoder(model, rows, **options)
    if not isinstance(model, nn.Module):
        raise UserError(f"a model is needed, not {show(model)}")
    if block_size is None:
        raise UserError("block_size: this model does not say how much it can look at")
    return Recomputing(model, rows, block_size)


def _to_int8(linear: nn.Module) -> Int8 | None:
    return Int8(linear) if isinstance(linear, nn.Linear) else None


def _longer_table(model: GPT) -> Tensor:
    """Rotations for two blocks and one position: a row goes round twice before it is turned back."""
    config = model.config
    if config.position != "rotary":
        raise UserError(f"when_full rotate: needs rotary positions, and this model's are {config.position}: take crop")
    table = rotary_table(2 * config.block_size + 1, config.head_width, config.rope_base, config.rope_pairing)
    return table.to(model.rotations)
