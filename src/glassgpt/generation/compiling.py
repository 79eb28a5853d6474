"""The decode step for one sequence, compiled once for this machine and kept on disk: no compiler runs the next time.

torch exports the model's own forward pass, and its compiler writes C++ from it (AOTInductor). The weights are not in
what is kept: it serves every model of the same shape, and loads in some milliseconds.
"""

import hashlib
import inspect
import json
import platform
import sys
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError, reason
from glassgpt.files import cache_folder, replacing
from glassgpt.generation import linear
from glassgpt.generation.compiler import find_compiler, use_compiler, why_not_compiled
from glassgpt.generation.linear import OneRow, one_query_attention, with_linears
from glassgpt.model import attention, config, embeddings, gpt, layers, norms, positions
from glassgpt.model import cache as model_cache
from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.gpt import GPT
from glassgpt.model.sizing import sizes
from glassgpt.threads import in_force

SOURCES = (sys.modules[__name__], attention, config, embeddings, gpt, layers, linear, model_cache, norms, positions)
WORTH_SHARING = 2**18  # parameters in a layer; with 200,000, one thread takes 100 µs for what two take 165 for


class DecodeStep(nn.Module):
    """One token for each row, with all that changes from step to step as tensors."""

    def __init__(self, model: GPT):
        super().__init__()
        self.model = model

    def forward(
        self,
        numbers: Tensor,
        seen: Tensor,
        last_ids: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Ids, lengths and slots (3, B), and what `RowsCache` takes, to logits (B, V) and last ids (B, ngrams - 1)."""
        rows = RowsCache(keys, values, numbers[1], numbers[2], seen, last_ids)
        return self.model(numbers[0, :, None], rows)[:, -1], rows.last_ids


class CompiledRows:
    """The compiled `DecodeStep`, for the rows of a cache, one at a time.

    What stays the same from step to step is made once: a large model's step leaves nothing else in the processor's
    cache, so all that Python touches between two of them comes from memory, 0.4 ms where this was done each time.

    Args:
        model: whose linear layers are plain or `Int8`. Its weights are read where they are.
        store: with one slot more than the block, since the compiler takes it that fewer than all are looked at.
        last_ids: of each row, (rows, ngrams - 1), read where they are.
        tell: is told that there is something to wait for.
        may_compile: otherwise, only what is on the disk is taken.

    Raises:
        UserError: it could not be compiled, most likely since there is no C++ compiler; or it may not.
    """

    def __init__(
        self,
        model: GPT,
        store: KVCache,
        last_ids: Tensor,
        tell: Callable[[str], None],
        *,
        may_compile: bool = True,
    ):
        step = DecodeStep(with_linears(model, OneRow, one_query_attention))
        package = _package(step, store, package_path(model), tell if may_compile else None)
        tensors = (*step.named_parameters(remove_duplicate=False), *step.named_buffers(remove_duplicate=False))
        named = dict(tensors)
        self._weights = {name: named[name].detach() for name in package.get_constant_fqns()}  # it does not keep them
        package.load_constants(self._weights, False, True, True)  # into use, all of them, and no second copy
        self._run: Callable[[list[Tensor]], list[Tensor]] = package.boxed_run
        self._seen = torch.arange(step.model.config.block_size)
        self._reaches: dict[int, Tensor] = {}
        self._rows = [_Row(store, last_ids, row) for row in range(len(last_ids))]

    def __call__(self, row: int, token: int, position: int, slot: int, reach: int) -> tuple[Tensor, Tensor]:
        """Take one token of a row.

        Args:
            slot: where its keys and values go.
            reach: how many slots to look at.

        Returns:
            Logits (1, V), and the row's last ids after that, (1, ngrams - 1).
        """
        if reach not in self._reaches:
            self._reaches[reach] = self._seen[:reach]
        one = self._rows[row]
        one.written[:] = token, position, slot
        # One flat list: to take lists apart would take as long as a small model's step. The run empties it.
        logits, newest = self._run([one.numbers, self._reaches[reach], one.last_ids, *one.memory])
        return logits, newest


class _Row:
    """A row's arguments of `DecodeStep`."""

    def __init__(self, store: KVCache, last_ids: Tensor, row: int):
        self.numbers = torch.zeros(3, 1, dtype=torch.int64)
        self.written = self.numbers.numpy()[:, 0]  # the same memory, quicker to write to
        self.last_ids = last_ids[row : row + 1]
        self.memory = [memory[row : row + 1] for memory in (*store.keys, *store.values)]


def _package(step: DecodeStep, store: KVCache, path: Path, tell: Callable[[str], None] | None) -> Any:
    """From the disk, or compiled now, if there is someone to tell."""
    try:
        return _load(path)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        if tell is None:
            raise UserError(f"{path}: the compiled model cannot be loaded ({reason(error)}): delete it") from None
    tell("compiling the model for this machine, once: about half a minute")
    try:
        _compile(step, store, path)
        return _load(path)
    except Exception as error:
        raise UserError(f"the model could not be compiled ({why_not_compiled(error)}): use --mode eager") from None


def _load(path: Path) -> Any:
    """What torch._inductor.aoti_load_package does, without loading the compiler for it, which takes a second or two.

    Raises:
        OSError, RuntimeError, zipfile.BadZipFile: it is not there, or damaged. Torch does not look for damage, and code
            that is damaged may do anything.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)


def _threads(model: GPT) -> int:
    """How many share a step's work: to wait for each other some times a layer takes longer than a small layer.

    It is that of an idle machine: what is compiled serves whatever the load, and on a busy one `waiting` helps.
    """
    return 1 if sizes(model.config).parameters / model.config.n_layer < WORTH_SHARING else in_force().most


def can_compile(model: GPT) -> bool:
    """Whether a step can be compiled here: on a CPU, in float32, with a C++ compiler."""
    weight = model.token_embedding.weight
    return weight.device.type == "cpu" and weight.dtype is torch.float32 and find_compiler() is not None


def package_path(model: GPT) -> Path:
    """Where the compiled step of such a model is kept: its name says all that it depends on."""
    kinds = sorted({type(module).__name__ for module in model.modules()})
    machine = (platform.system(), platform.machine(), _processor(), _threads(model), find_compiler())
    shape = model.config.model_dump(mode="json")
    rotations = len(model.rotations[0]) if hasattr(model, "rotations") else 0
    key = json.dumps([shape, kinds, rotations, torch.__version__, machine, _source_hash()], sort_keys=True, default=str)
    return cache_folder() / "compiled" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pt2"


@cache
def _processor() -> str:
    """All that it can do, where torch knows: a folder may be shared by machines, and code is made for one kind."""
    found = getattr(torch.cpu, "get_capabilities", torch.backends.cpu.get_cpu_capability)()
    return str(sorted(found.items()) if isinstance(found, dict) else found)  # (in no order that is promised)


@cache
def _source_hash() -> str:
    text = "".join(inspect.getsource(module) for module in SOURCES)
    return hashlib.sha256(text.encode()).hexdigest()


def _compile(step: DecodeStep, store: KVCache, path: Path) -> None:
    one = store.row(0)
    device = one.last_ids.device
    block = step.model.config.block_size
    numbers = torch.zeros(3, 1, dtype=torch.int64, device=device)
    inputs = (numbers, torch.arange(max(1, block - 1), device=device), one.last_ids, one.keys, one.values)
    layers = len(one.keys)
    seen = {0: torch.export.Dim("n", min=1, max=block)} if block > 1 else None
    changing = (None, seen, None, [None] * layers, [None] * layers)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad(), replacing(path) as temporary:
        warnings.simplefilter("ignore")  # torch's own, about its own
        exported = torch.export.export(step, inputs, dynamic_shapes=changing)
        settings = {
            "aot_inductor.package_constants_in_so": False,
            "always_keep_tensor_constants": True,  # the smallest weights would be numbers in the code
            "cpp.threads": _threads(step.model),
        }
        use_compiler()
        made = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(temporary.with_suffix(".pt2")), inductor_configs=settings
        )
        Path(made).replace(temporary)
