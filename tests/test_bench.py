"""Measuring: turns are fair, what is counted is counted right, and both sides do the same work."""

import gc
import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassgpt.bench import limits, pairing, training
from glassgpt.bench.memory import measure_memory
from glassgpt.bench.pairing import Side, Spread, take_turns
from glassgpt.bench.training import OURS, THEIRS, THEIRS_FUSED, THEIRS_PLAIN, compare_training, make_side, side_names
from glassgpt.bench.work import SHAPES, Work, find_work
from glassgpt.errors import UserError
from glassgpt.model import make_model
from tests.conftest import call

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": 11}


def tiny(**training_fields) -> Work:
    return find_work("0.8M", {"model": TINY, "training": {"batch_size": 3, **training_fields}}, {"device": "cpu"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products, no warming up, no other processes."""
    monkeypatch.setattr(pairing, "WARM_UP_SECONDS", 1e-9)
    monkeypatch.setattr(limits, "SIZES", (32, 64))
    monkeypatch.setattr(limits, "BYTES_READ", {"cpu": 4096})
    monkeypatch.setattr("glassgpt.bench.memory.measure_memory", lambda _work, _side: 123_000_000)


class Clock:
    """Time that passes only when a side works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now, self.log = 0.0, []
        monkeypatch.setattr(pairing.time, "perf_counter", lambda: self.now)

    def side(self, name: str, seconds: float, work: float = 1.0, **settings) -> Side:
        def step() -> float:
            self.now += seconds
            self.log.append(name)
            return work

        return Side(name, step, **settings)

    def turns(self) -> list[str]:
        """Who worked, with steps of one turn taken together."""
        return [name for name, before in zip(self.log, ["", *self.log], strict=False) if name != before]


# --- turns -------------------------------------------------------------------------------------------------------


def test_sides_take_turns_in_the_opposite_order_every_other_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sides = [clock.side("a", 0.25), clock.side("b", 0.125), clock.side("c", 0.5)]
    take_turns(sides, rounds=3, seconds=1.0)
    assert "".join(clock.turns()) == "abcabcbabc"  # warming up, then three rounds


def test_rates_are_work_over_time_and_ratios_are_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    seconds, timed = take_turns([clock.side("a", 0.25, 100), clock.side("b", 0.5, 100)], rounds=4)
    assert seconds == 1.5  # three steps of the slower one
    assert timed["a"].rate.rounds == (400,) * 4
    assert timed["b"].rate.rounds == (200,) * 4
    assert (timed["a"].first_seconds, timed["b"].first_seconds) == (0.5, 1.0)
    ratio = Spread((2, 9, 4)) / Spread((1, 3, 4))
    assert (ratio.median, ratio.lowest, ratio.highest) == (2, 1, 3)


def test_what_a_device_has_not_done_yet_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def finish() -> None:
        clock.now += 3

    _, timed = take_turns([clock.side("a", 0.25, finish=finish)], rounds=1, seconds=1.0)
    assert timed["a"].rate.rounds == (1.0,)  # four steps in one second and three


def test_no_garbage_is_collected_within_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(monkeypatch), []

    def step() -> float:
        clock.now += 1
        seen.append(gc.isenabled())
        return 1.0

    take_turns([Side("a", step)], rounds=2, seconds=1)
    assert seen == [True] * 3 + [False] * 2
    assert gc.isenabled()

    def fail() -> float:
        step()
        return 1 / seen[-1]

    with pytest.raises(ZeroDivisionError):
        take_turns([Side("a", fail)], rounds=1, seconds=1)
    assert gc.isenabled()


# --- work --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_both_sides_train_the_same_model(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    work = find_work(name, {})
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(training.gpt2_config(work))
    assert theirs.num_parameters() == work.parameters
    assert abs(work.parameters / 1e6 - float(name.rstrip("M"))) < 0.5


@pytest.mark.parametrize("changes", [{}, {"activation": "swiglu", "n_kv_head": 1}, {"tie_weights": False}])
def test_operations_are_those_that_torch_counts(changes: dict) -> None:
    work = find_work("0.8M", {"model": {**TINY, **changes, "attention": "manual", "bias": False}})
    model, ids = make_model(work.model), torch.randint(11, (2, 8))
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    assert counter.get_total_flops() == work.flops_per_token * ids.numel()


def test_a_step_of_each_side_takes_all_its_tokens_and_changes_the_model() -> None:
    pytest.importorskip("transformers")
    work = tiny(gradient_accumulation=2)
    for name in (OURS, THEIRS, THEIRS_FUSED):
        side = make_side(name, work)
        assert [side.step(), side.step()] == [2 * 3 * 8] * 2 == [work.tokens] * 2
        assert side.name == name


def test_transformers_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    losses = []
    forward = training._LossOf.forward
    monkeypatch.setattr(training._LossOf, "forward", lambda self, ids: losses.append(forward(self, ids)) or losses[-1])
    monkeypatch.setattr(training, "_batches", lambda _: lambda _: (torch.arange(8).repeat(3, 1), None))
    side = make_side(THEIRS, tiny(learning_rate=1e-2))
    for _ in range(40):
        side.step()
    assert losses[-1] < losses[0] / 2


def test_a_recipe_is_work_for_glassgpt_alone() -> None:
    work = find_work("shakespeare-cpu", {"training": {"batch_size": 5}})
    assert (work.model.vocab_size, work.training.batch_size, work.is_shape) == (65, 5, False)
    assert work.changes == ("training.batch_size=5",)
    assert str(work) == "shakespeare-cpu: 4 layers, 4 heads, width 128, context 64, batch 5, vocabulary 65"
    assert Work.from_dict(json.loads(json.dumps(work.to_dict()))) == work


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="takes psutil there")
def test_memory_is_that_of_the_training_and_not_of_the_parent() -> None:
    in_the_way = torch.ones(2**28)  # 1 GiB that only this process has
    small, large = (
        measure_memory(find_work("0.8M", {"model": {**TINY, "n_embd": width}}, {"device": "cpu"}), OURS)
        for width in (16, 512)
    )
    assert small is not None
    assert large is not None
    assert small < in_the_way.nbytes
    more = find_work("0.8M", {"model": {**TINY, "n_embd": 512}}).parameters * 16  # weight, gradient, two of AdamW's
    assert more < large - small < 1.5 * more


def test_a_process_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\n  more\nRuntimeError: no luck\n")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_named: failed)
    with pytest.raises(UserError, match=r"^glassgpt: the process .*: RuntimeError: no luck$"):
        measure_memory(tiny(), OURS)
    failed.stderr, failed.returncode = "", -9
    with pytest.raises(UserError, match="exit code -9, which may be for lack of memory"):
        measure_memory(tiny(), OURS)


# --- the commands ------------------------------------------------------------------------------------------------


def fields() -> list[str]:
    words = [f"--model.{field.replace('_', '-')}={value}" for field, value in TINY.items()]
    return [
        *words,
        "--training.batch-size=3",
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--rounds",
        "2",
        "--seconds",
        "0.001",
    ]


@pytest.mark.usefixtures("quick")
def test_bench_train_against_transformers_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    assert call("bench", "train", "--against", "transformers", "--json", *fields()) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads(out)["training"]
    assert err == ""
    ours, theirs, fused = found["sides"]
    assert [ours["name"], theirs["name"], fused["name"]] == [OURS, THEIRS, THEIRS_FUSED]
    assert ours["glassgpt_times_as_fast"] is None
    for side in (theirs, fused):
        for number, ratio in enumerate(side["glassgpt_times_as_fast"]["rounds"]):
            mine, other = (each["tokens_per_second"]["rounds"][number] for each in (ours, side))
            assert ratio == mine / other
    peak = found["matmul_flops_per_second"]["rounds"]
    speed, mfu = ours["tokens_per_second"]["rounds"], ours["mfu"]["rounds"]
    assert mfu == [s * found["flops_per_token"] / p for s, p in zip(speed, peak, strict=True)]
    assert len(peak) == 2
    assert found["precision"] == "float32"
    assert found["model"]["n_embd"] == 16
    assert found["machine"]["device"] == "cpu"


@pytest.mark.usefixtures("quick")
def test_bench_train_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("bench", "train", *fields()) == 0
    out = capsys.readouterr().out
    assert "0.8M: 2 layers, 2 heads, width 16, context 8, batch 3, vocabulary 11" in out
    assert "123 MB" in out
    assert "transformers" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert "model.n_embd=16" in out  # what differs from the shape is said


@pytest.mark.usefixtures("quick")
def test_bench_tells_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "--device", "cpu", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matmul_flops_per_second"]["float32"] > 0
    assert found["memory_read_bytes_per_second"] > 0
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert call("bench", "--device", "cpu") == 0
    assert "matrix product, float32" in capsys.readouterr().out


def test_a_format_that_the_device_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(_device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
        if dtype is torch.bfloat16:
            raise TypeError("BFloat16 is not supported on MPS")
        return 1, 5.0

    monkeypatch.setattr(limits, "_best_product", product)
    monkeypatch.setattr(limits, "measure_memory_read", lambda _: 1.0)
    assert limits.measure_limits(torch.device("cpu")).matmul == {"float32": 5.0}


@pytest.mark.usefixtures("quick")
def test_a_comparison_with_compilation_falls_back_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")

    def no_compiler(_model: object, **_named: object) -> object:
        def fail(*_args: object) -> object:
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.warns(UserWarning, match="torch.compile failed"):
        found = compare_training(tiny(compile=True), against_transformers=True, rounds=1, seconds=0.001, peaks={})
    assert len(found.sides) == 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--shape", "0.9M"], "no shape or recipe '0.9M': did you mean '0.8M'?"),
        (["--shape", "shakespeare-cpu", "--against", "transformers"], "no counterpart of the recipe shakespeare-cpu"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--seconds", "0"], "--seconds 0: more than 0"),
        (["--threads", "0"], "--threads 0: at least 1"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--training.max-steps", "5"], "training.max_steps: has no say"),
        (["--data.source", "x.txt"], "data.source: has no say"),
        (["--model.n-head", "3"], "n_head 3 does not divide"),
        (["--precision", "float16", "--device", "cpu"], "precision float16: not on a CPU"),
    ],
)
def test_what_a_user_can_get_wrong(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "train", *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_without_transformers_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert call("bench", "train", "--against", "transformers") == 2
    assert capsys.readouterr().err == "glassgpt: transformers is not installed: pip install 'glassgpt[bench]'\n"


@pytest.mark.parametrize(
    ("precision", "compiles", "expected"),
    [
        ("float32", False, [OURS, THEIRS, THEIRS_FUSED]),
        ("float32", True, [OURS, THEIRS, THEIRS_FUSED, THEIRS_PLAIN]),
        ("bfloat16", False, [OURS, THEIRS, THEIRS_FUSED, THEIRS_PLAIN]),
    ],
)
def test_where_the_others_are_not_plain_transformers_is_so_too(
    precision: str, compiles: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    work = tiny(precision=precision, compile=compiles)
    assert side_names(work, against_transformers=True) == expected
    assert side_names(work, against_transformers=False) == [OURS]
    assert [make_side(name, work).name for name in expected] == expected
