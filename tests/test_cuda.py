"""A CUDA GPU computes what the CPU does. The same checks run on the CPU, so that they are known to work without a card.

`benchmarks/gpu.py` runs them where there is no pytest. With GLASSGPT_DEVICE=cpu, those that compile run there, too.
"""

import os
from typing import Any
from unittest import mock

import pytest
import torch

from benchmarks.on_gpu import checks, compiled, decoding, runs
from benchmarks.on_gpu.stand_in import NotAllowedInCaptureError, RecordedCapture, graphs_on_cpu
from glassgpt.bench import limits
from glassgpt.generation import graphs
from glassgpt.generation.engine import Engine, Request
from glassgpt.training.precision import choose_precision
from glassgpt.training.precision import compiled as compiled_model

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))
every_device = pytest.mark.parametrize("device", ["cpu", CUDA])
QUICK = {**checks.CHECKS, **runs.CHECKS, **decoding.CHECKS}
where_compiling_pays = pytest.mark.parametrize(
    "device",
    [pytest.param("cpu", marks=pytest.mark.skipif(os.environ.get("GLASSGPT_DEVICE") != "cpu", reason="slow")), CUDA],
)


@every_device
@pytest.mark.parametrize("check", QUICK.values(), ids=[title.replace(" ", "-") for title in QUICK])
def test_the_device_does_what_the_cpu_does(check: checks.Check, device: str) -> None:
    assert check(torch.device(device))


@where_compiling_pays
@pytest.mark.filterwarnings("default")  # of torch's own compiler, about itself
@pytest.mark.parametrize("check", compiled.CHECKS.values(), ids=[title.replace(" ", "-") for title in compiled.CHECKS])
def test_compiled_training_does_what_plain_training_does(check: checks.Check, device: str, own_compiler: None) -> None:
    assert check(torch.device(device))


# --- that the checks would notice ---------------------------------------------------------------------------------


def test_wrong_arithmetic_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TF32 would round: to 10 bits."""
    right = torch.nn.functional.linear

    def rounded(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if x.dtype is torch.float32:
            x = x + (x.to(torch.float16).float() - x).detach()
        return right(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", rounded)
    with pytest.raises(AssertionError, match="off by"):
        checks.forward_and_gradients(torch.device("cpu"))


def test_a_resumed_training_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassgpt.training.optimizer.Optimizer.load_state", lambda *_: None)
    with pytest.raises(AssertionError, match="off by"):
        checks.resuming(torch.device("cpu"))


@pytest.mark.parametrize("row", [0, 2], ids=["id", "slot"])
def test_a_graph_that_keeps_an_input_is_noticed(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    make = graphs.GraphSteps._make

    def forgetful(steps: graphs.GraphSteps, rows: int) -> Any:
        replay, first = make(steps, rows), []

        def run(numbers: torch.Tensor, last_ids: torch.Tensor) -> Any:
            first.append(numbers.clone())
            numbers = numbers.clone()
            numbers[row] = first[0][row]
            return replay(numbers, last_ids)

        return run

    monkeypatch.setattr(graphs.GraphSteps, "_make", forgetful)
    with pytest.raises((AssertionError, RuntimeError)):
        decoding.every_mode(torch.device("cpu"))


def test_what_a_capture_forbids_is_refused() -> None:
    number = torch.ones(3)

    def waits() -> tuple[torch.Tensor, torch.Tensor]:
        return number * number.sum().item(), number

    with pytest.raises(NotAllowedInCaptureError, match="_local_scalar_dense"):
        RecordedCapture(torch.device("cpu"))(waits)


# --- graphs -------------------------------------------------------------------------------------------------------


def test_few_graphs_serve_any_number_of_rows() -> None:
    wanted = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 8: 8, 9: 16, 16: 16, 17: 24, 64: 64}
    assert {rows: graphs.rows_of_graph(rows) for rows in wanted} == wanted
    with graphs_on_cpu():
        engine = Engine(decoding.make_gpt(), slots=13, mode="graphs")
        for length in range(14, 1, -1):
            engine.add(Request([1, 2], decoding.GREEDY.replace(max_new_tokens=length)))
        before = RecordedCapture.captures
        while not engine.is_idle:
            engine.step()
        # Thirteen rows at first, one at last, and every number in between.
        assert RecordedCapture.captures - before == len({13, 8, 4, 2, 1})


def test_rows_that_a_graph_has_too_many_write_nowhere() -> None:
    """A prompt that an idle row still holds is shared later: steps of other rows must have left it alone."""
    definition, model = decoding.Definition(), decoding.make_gpt()
    held = decoding.PROMPTS[3]
    with graphs_on_cpu():
        engine = Engine(model, slots=8, mode="graphs")
        short = decoding.GREEDY.replace(max_new_tokens=3)
        decoding.written(engine, *(Request(decoding.PROMPTS[n], short) for n in (0, 2, 4)), Request(held, short))
        long = decoding.GREEDY.replace(max_new_tokens=12)
        decoding.written(engine, *(Request(prompt, long) for prompt in decoding.PROMPTS[5:8]))
        for row in range(8):
            engine._decoder.tokens[row] = engine._decoder.tokens[row] if row == 3 else []  # only one to share from
        (ids,) = decoding.written(engine, Request(held, decoding.GREEDY))
    assert definition.differs(held, ids) is None


def test_a_capture_is_on_the_models_own_device() -> None:
    names = ("Stream", "graph_pool_handle", "CUDAGraph", "device", "current_stream", "stream", "graph")
    with mock.patch.multiple("torch.cuda", **{name: mock.MagicMock(name=name) for name in names}):
        second = torch.device("cuda:1")
        capture = graphs.Capture(second)
        torch.cuda.Stream.assert_called_once_with(second)  # type: ignore[attr-defined]
        results, run = capture(lambda: (torch.ones(1), torch.ones(2)))
        torch.cuda.device.assert_called_with(second)  # type: ignore[attr-defined]
        told = torch.cuda.graph.call_args.kwargs  # type: ignore[attr-defined]
        assert told["stream"] is torch.cuda.Stream.return_value  # type: ignore[attr-defined]
        assert told["capture_error_mode"] == "thread_local"
        assert len(results) == 2 and run is torch.cuda.CUDAGraph.return_value.replay  # type: ignore[attr-defined]


# --- precision and limits -----------------------------------------------------------------------------------------


def test_the_precision_is_that_of_the_card_it_is_about() -> None:
    current = [0]
    cards = {0: True, 1: False}  # the second one has no units for bfloat16

    class Device:
        def __init__(self, device: torch.device):
            self.index = device.index

        def __enter__(self) -> None:
            current.append(self.index)

        def __exit__(self, *_: object) -> None:
            current.pop()

    with (
        mock.patch("torch.cuda.device", Device),
        mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation: cards[current[-1]]),
    ):
        assert choose_precision(torch.device("cuda:0")) is torch.bfloat16
        assert choose_precision(torch.device("cuda:1")) is torch.float16


def test_running_out_of_memory_is_no_failure_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda _: full)
    with pytest.raises(torch.OutOfMemoryError):
        compiled_model(torch.nn.Identity())(torch.zeros(1))


def test_a_small_card_has_limits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def randn(*shape: int, device: torch.device) -> torch.Tensor:
        if shape[0] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.ones(shape, device=device)

    monkeypatch.setattr(limits, "SIZES", (32, 64))
    monkeypatch.setattr(torch, "randn", randn)
    size, speed = limits._best_product(torch.device("cpu"), torch.float32)
    assert size == 32 and speed > 0
    monkeypatch.setattr(limits, "SIZES", (64,))
    with pytest.raises(torch.OutOfMemoryError):
        limits._best_product(torch.device("cpu"), torch.float32)


def test_tf32_is_measured_where_there_is_such_a_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def product(_: torch.device, dtype: torch.dtype) -> tuple[int, float]:
        seen.append((dtype, torch.get_float32_matmul_precision()))
        return 8, float(len(seen))

    monkeypatch.setattr(limits, "_best_product", product)
    monkeypatch.setattr(limits, "measure_memory_read", lambda _: 1.0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    found = limits.measure_limits(torch.device("cuda")).matmul
    assert found == {"float32": 1.0, "bfloat16": 2.0, "tf32": 3.0}
    assert seen[-1] == (torch.float32, "high")
    assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert "tf32" not in limits.measure_limits(torch.device("cuda")).matmul


def test_matrix_products_of_a_comparison_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU takes a thousand before it lets anyone wait: a turn of 0.3 s would last ten."""
    waited = []
    monkeypatch.setattr(limits, "SIZES", (8,))
    monkeypatch.setattr(limits, "waiter", lambda _: lambda: waited.append(1))
    side = limits.matmul_side(torch.device("cpu"), torch.float32)
    before = len(waited)
    for _ in range(3):
        side.step()
    assert len(waited) - before == 3
