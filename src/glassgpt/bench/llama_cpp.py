"""llama.cpp as a side of a comparison: the same model in a GGUF file, run by the package xllamacpp."""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from glassgpt.bench.writers import Written
from glassgpt.errors import UserError
from glassgpt.generation.decoder import Weights
from glassgpt.model.gpt import GPT

NAME = "llama.cpp"
GGUF_NAMES = {  # of the tensors outside the blocks, then of those in each
    "token_embedding": "token_embd",
    "position_embedding": "position_embd",
    "final_norm": "output_norm",
    "norm_1": "attn_norm",
    "attn.qkv": "attn_qkv",
    "attn.proj": "attn_output",
    "norm_2": "ffn_norm",
    "mlp.fc": "ffn_up",
    "mlp.proj": "ffn_down",
}
Q8_0_BLOCK = 32  # numbers that share a scale
Q8_0_BYTES = 34 / 32  # one a number, and a float16 for every block


class LlamaCpp:
    """A model in llama.cpp, with as many threads as torch has. Its cache is in float16, as it comes.

    Times are those that it takes itself, without the way in and out through Python, but for several prompts at once
    where it tells only those of one: there the whole call counts.

    It runs in a process of its own: in one process, its threads and torch's share a library (libgomp) that lets threads
    sleep instead of spin where it counts more of them than cores, and either side is five to ten times slower.

    Args:
        model: of GPT-2's architecture.
        weights: int8 is llama.cpp's q8_0.
        exact: with a float32 cache.
    """

    name = NAME

    def __init__(self, model: GPT, *, weights: Weights = "float32", exact: bool = False):
        self.how = "q8_0" if weights == "int8" else "float32"
        self.weight_bytes = 4.0 if weights == "float32" else Q8_0_BYTES
        self.cache_bytes = 4.0 if exact else 2.0
        self._context, self._exact = model.config.block_size, exact
        self._process: subprocess.Popen[str] | None = None
        import_llama_cpp()  # to say now if it is not there
        self._folder = tempfile.TemporaryDirectory(prefix="glassgpt-llama-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name) / "model.gguf"
        write_gguf(model, self._file, weights)

    def write(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Written:
        """See `Writer`."""
        if self._process is None:
            options = [str(self._file), str(self._context), str(torch.get_num_threads()), str(int(self._exact))]
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "glassgpt.bench.llama_cpp", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"prompts": [list(p) for p in prompts], "new_tokens": new_tokens}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise UserError(
                f"llama.cpp: its process ended with exit code {process.wait()}, which may be for lack of memory"
            )
        return Written(*json.loads(answer))

    def close(self) -> None:
        """Also removes the file."""
        if self._process is not None:
            self._process.communicate()  # it ends with its input
            self._process = None
        self._folder.cleanup()


def _serve(file: str, context: str, threads: str, exact: str) -> None:
    """The process that runs llama.cpp: a JSON line in for each thing to write, one out for what was written."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library may print is no answer
    xllamacpp = import_llama_cpp()
    servers: dict[int, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = asked["prompts"]
        slots = len(prompts)
        if slots not in servers:
            params = xllamacpp.CommonParams()
            params.model.path = file
            params.n_parallel, params.n_ctx = slots, slots * int(context)
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
            params.n_gpu_layers = 0
            params.offline, params.verbosity = True, 0
            if int(exact):
                params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            servers.clear()  # no thread of another one stays
            servers[slots] = xllamacpp.Server(params)
        request = {
            "prompt": prompts if slots > 1 else prompts[0],
            "n_predict": asked["new_tokens"],
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        began = time.perf_counter()
        answer = servers[slots].handle_completions(request)
        whole = time.perf_counter() - began
        if "choices" not in answer:
            raise RuntimeError(f"llama.cpp: {answer}")
        first = answer["timings"]["prompt_ms"] / 1000
        rest = whole - first if slots > 1 else answer["timings"]["predicted_ms"] / 1000
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        print(json.dumps([[_ids(choice["text"]) for choice in choices], first, rest]), file=out, flush=True)


def write_gguf(model: GPT, path: Path, weights: Weights = "float32") -> None:
    """Write a model of GPT-2's architecture as llama.cpp reads it, with a vocabulary that only spells ids: "[17]".

    As llama.cpp's own q8_0 does, int8 leaves positions, norms and biases in float32.
    """
    gguf = _import("gguf")
    config, q8_0 = model.config, gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.inner_width)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"[{token}]" for token in range(config.vocabulary)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocabulary)
    writer.add_token_merges(["[ 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, weight in model.state_dict().items():
        numbers = weight.detach().float().cpu().numpy()
        if weights == "int8" and numbers.ndim == 2 and name != "position_embedding.weight":
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(numbers, q8_0), raw_dtype=q8_0)
        else:
            writer.add_tensor(gguf_name(name), numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """What GGUF calls a tensor of ours."""
    place, kind = name.rsplit(".", 1)
    if not place.startswith("blocks."):
        return f"{GGUF_NAMES[place]}.{kind}"
    _, number, rest = place.split(".", 2)
    return f"blk.{number}.{GGUF_NAMES[rest]}.{kind}"


def import_llama_cpp() -> Any:
    """The package xllamacpp.

    Raises:
        UserError: it is not installed, or gguf is not.
    """
    _import("gguf")
    return _import("xllamacpp")


def check_fits_llama_cpp(model_width: int, weights: Weights, device: torch.device) -> None:
    """That llama.cpp can be compared with.

    Raises:
        UserError: the device is no CPU, or rows of weights cannot be cut into blocks.
    """
    if device.type != "cpu":
        raise UserError("--against llama.cpp: compares on the CPU: give --device cpu")
    if weights == "int8" and model_width % Q8_0_BLOCK:
        raise UserError(f"--against llama.cpp --weights int8: q8_0 takes a width that {Q8_0_BLOCK} divides")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed: pip install 'glassgpt[bench]'") from None


def _ids(text: str) -> list[int]:
    """The ids that a text of the vocabulary of `write_gguf` spells."""
    return [int(digits) for digits in re.findall(r"\[(\d+)\]", text)]


if __name__ == "__main__":
    _serve(*sys.argv[1:])
