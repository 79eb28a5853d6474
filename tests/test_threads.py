"""The number of threads, how they wait, and what is said about it; with made-up loads, since nothing here is timed."""

import json
import math
import sys
import threading
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassgpt import threads, waiting
from glassgpt.data.batches import Batches
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.recipes import TrainingConfig, load_recipe
from glassgpt.threads import SLACK, Threads
from glassgpt.training.load import LASTS, PAUSE, LoadNotice
from glassgpt.training.trainer import Trainer
from glassgpt.waiting import FREE_LOOKS, IDLE_LOOKS, Contention, SecondTeam, Watch
from tests.conftest import SMALL, call


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's default on two cores, nothing set, nothing chosen yet."""
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_settled", None)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(waiting, "watch", lambda: None)  # no thread that outlives a test
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def busy(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores_got", lambda number: 1.2)


@pytest.fixture
def idle(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores_got", lambda number: 0.99 * number)


# --- the choice ------------------------------------------------------------------------------------------------------


def got_beside(cores: int, busy: int, number: int) -> float:
    """What a fair system gives to a team of threads beside some busy processes."""
    return min(number, cores * number / (number + busy))


@pytest.mark.parametrize(
    ("cores", "busy", "chosen"),
    [(2, 0, 2), (2, 1, 1), (2, 2, 1), (4, 1, 3), (8, 0, 8), (8, 1, 7), (16, 1, 15), (1, 3, 1)],
)
def test_the_trial_leaves_the_cores_that_others_use(cores: int, busy: int, chosen: int) -> None:
    assert threads._trial(cores, lambda number: got_beside(cores, busy, number)) == chosen


@given(st.integers(1, 128), st.integers(0, 300))
def test_every_thread_of_the_choice_gets_a_core_and_on_an_idle_machine_all_are_chosen(cores: int, busy: int) -> None:
    chosen = threads._trial(cores, lambda number: got_beside(cores, busy, number))
    assert 1 <= chosen <= cores
    assert chosen == 1 or got_beside(cores, busy, chosen) >= chosen - SLACK
    assert busy or chosen == cores


def test_a_hiccup_is_no_load() -> None:
    looks = chain([1.1], repeat(1.98))
    assert threads._trial(2, lambda number: next(looks)) == 2


@pytest.mark.usefixtures("busy")
def test_settling_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.settle() == Threads(1, "trial", 2)
    assert str(threads.settle()) == "1 thread (this machine is busy: 2 when it is idle)"
    assert torch.get_num_threads() == 1
    monkeypatch.setattr(threads, "_cores_got", pytest.fail)
    assert threads.settle().number == 1


@pytest.mark.usefixtures("idle")
def test_on_an_idle_machine_all_is_as_torch_has_it() -> None:
    assert str(threads.settle()) == "2 threads"
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("name", threads.VARIABLES)
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores_got", pytest.fail)
    monkeypatch.setenv(name, "2")
    assert str(threads.settle()) == f"2 threads ({name})"
    assert torch.get_num_threads() == 2
    monkeypatch.delenv(name)
    torch.set_num_threads(1)  # by a script
    assert threads.settle().number == torch.get_num_threads() == 1


@pytest.mark.usefixtures("two_cores")
def test_another_device_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores_got", pytest.fail)
    monkeypatch.setattr("glassgpt.device.choose_device", lambda name: torch.device("cuda"))
    assert threads.settle("auto") == Threads(2, "torch", 2)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({"cpu.max": "unreadable"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_containers_quota_is_read(files: dict[str, str], cores: float, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert threads._quota(tmp_path) == cores


# --- in a run --------------------------------------------------------------------------------------------------------


def started(text_file: Path, out: Path) -> Path:
    """A run that was told to stop after six of its twelve steps, at a checkpoint."""
    steps = ["--training.max-steps", "6" if out.name == "run" else "4"]
    assert call("train", "--data", text_file, "--out", out, *SMALL, *steps) == 0
    return out


def kept(run: Path) -> int | None:
    return load_recipe(run / "recipe.toml").training.threads


@pytest.mark.usefixtures("busy")
def test_the_choice_is_kept_in_the_run_and_a_new_one_made_for_a_new_run(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(text_file, tmp_path / "run")
    assert kept(run) == 1
    assert "on: cpu, 1 thread (this machine is busy: 2 when it is idle), " in capsys.readouterr().out
    monkeypatch.setattr(threads, "_settled", None)  # a new process, on an idle machine
    monkeypatch.setattr(threads, "_cores_got", lambda number: number)
    torch.set_num_threads(2)
    assert call("train", "--resume", run, "--training.max-steps", 8) == 0
    assert torch.get_num_threads() == kept(run) == 1
    assert "on: cpu, 1 thread (training.threads), " in capsys.readouterr().out
    monkeypatch.setattr(threads, "_settled", None)
    torch.set_num_threads(2)
    assert call("train", run / "recipe.toml", "--out", tmp_path / "new") == 0
    assert torch.get_num_threads() == kept(tmp_path / "new") == 2


@pytest.mark.usefixtures("busy")
def test_the_number_may_change_when_a_run_resumes(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(text_file, tmp_path / "run")
    capsys.readouterr()
    assert call("train", "--resume", run, "--training.max-steps", 8, "--training.threads", 2) == 0
    assert "  training.threads 1 -> 2 (allowed)\n" in capsys.readouterr().out
    assert torch.get_num_threads() == kept(run) == 2


@pytest.mark.usefixtures("busy")
def test_a_run_of_an_earlier_version_resumes_with_torchs_number(text_file: Path, tmp_path: Path) -> None:
    run = started(text_file, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text(encoding="utf-8")
    (run / "recipe.toml").write_text(recipe.replace("threads = 1\n", ""), encoding="utf-8")
    assert kept(run) is None
    torch.set_num_threads(2)
    assert call("train", "--resume", run, "--training.max-steps", 8) == 0
    assert torch.get_num_threads() == 2
    assert kept(run) is None


@pytest.mark.usefixtures("two_cores")
def test_a_recipe_of_a_larger_machine_takes_a_thread_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores_got", pytest.fail)
    threads.use(8)
    assert torch.get_num_threads() == 2
    assert str(threads.in_force()) == "2 threads (training.threads 8: no more cores here)"


# --- how threads wait ------------------------------------------------------------------------------------------------


def test_contention_is_found_at_once_and_gone_only_when_it_stays_away() -> None:
    contention = Contention()
    assert [contention.look(waited) for waited in (0.0, 0.2, 0.3, 0.2, 0.2)] == [False, False, True, True, True]
    almost = [0.05] * (FREE_LOOKS - 1)
    assert all(contention.look(waited) for waited in [*almost, 0.2, *almost])
    assert not contention.look(0.05)


def test_a_second_team_is_there_while_threads_wait_for_a_core_and_the_watching_ends_with_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened, over = list[str](), threading.Event()
    waits = chain([0.0], repeat(1.0, 4), repeat(0.0, FREE_LOOKS + 2), repeat(1.0, 3), repeat(0.0))
    works = chain(repeat(1.0, 4 + FREE_LOOKS + 5), repeat(0.0))
    totals, clock = {"waited": 0.0, "worked": 0.0}, iter(range(1000))

    class Team:
        def __init__(self) -> None:
            happened.append("made")

        def end(self) -> None:
            happened.append("ended")

    def add(name: str, more: Iterator[float]) -> float:
        totals[name] += next(more)
        return totals[name]

    monkeypatch.setattr(waiting, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(waiting, "sleep", lambda seconds: None)
    watch = Watch(Team, lambda: add("waited", waits), lambda: add("worked", works))  # type: ignore[arg-type]
    monkeypatch.setattr(watch, "_look_on", lambda look_on=watch._look_on: (look_on(), over.set()))
    watch.begin()
    assert over.wait(60)
    assert happened == ["made", "ended", "made", "ended"]
    assert next(clock) < 100  # it ended soon after the work
    assert not watch.contention
    assert IDLE_LOOKS >= FREE_LOOKS


@pytest.mark.skipif(sys.platform != "linux" or waiting._libgomp() is None, reason="libgomp, on Linux")
def test_a_second_team_changes_nothing_in_what_is_computed_and_leaves_no_thread_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "watch", lambda: None)

    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=64, block_size=64, vocab_size=20))
        ids = np.random.default_rng(0).integers(20, size=5000).astype(np.uint8)
        trainer = Trainer(model, Batches(ids, 64, 16), TrainingConfig(max_steps=5, device="cpu"))
        for _ in trainer:
            pass
        return trainer.model.state_dict()

    gomp = waiting._libgomp()
    assert gomp is not None
    torch.set_num_threads(2)
    try:
        alone = trained()
        before = set(Path("/proc/self/task").iterdir())
        team = SecondTeam(gomp)
        beside = trained()
        made = {thread for thread in threading.enumerate() if thread.name == "glassgpt-second-team"}
        assert len(set(Path("/proc/self/task").iterdir()) - before) >= 2
        team.end()
        for thread in made:
            thread.join()
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(alone[name], weight) for name, weight in beside.items())


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_how_the_user_lets_threads_wait_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ACTIVE")
    assert waiting.watch.__wrapped__() is None


# --- what is said while training -------------------------------------------------------------------------------------

RUN = Path("runs/my run")


def lines(
    notice: LoadNotice, seconds: range, *, share: float, contention: bool | None, load: float | None
) -> list[str]:
    """What is told in some seconds, in each of which this process gets a share of CPU time."""
    told = (notice.look(now, 0.0 if share == 0 else share * now, contention, load) for now in seconds)
    return [line for line in told if line]


def test_a_change_of_load_is_told_once_when_it_lasts() -> None:
    notice = LoadNotice(Threads(2, "trial", 2), RUN)
    short = int(LASTS)
    assert not lines(notice, range(100, 200), share=2, contention=False, load=2.0)
    assert not lines(notice, range(200, 200 + short), share=1, contention=True, load=3.0)
    assert not lines(notice, range(210, 220), share=2, contention=False, load=2.0)
    (busy,) = lines(notice, range(220, 300), share=1, contention=True, load=3.0)
    assert busy.startswith("this machine is busy: ")
    (free,) = lines(notice, range(300, 400), share=2, contention=False, load=2.0)
    assert free == "this machine is idle again: back to full speed"


def test_a_load_that_comes_and_goes_is_not_told_each_time() -> None:
    notice = LoadNotice(Threads(2, "trial", 2), RUN)
    told = [notice.look(now, 0.0, now // 8 % 2 == 0, None) for now in range(100, 400)]
    assert 1 <= len(list(filter(None, told))) <= 300 / PAUSE + 1


def test_where_waiting_cannot_be_changed_the_command_is_told() -> None:
    notice = LoadNotice(Threads(2, "torch", 2), RUN)
    cpu, told = 0.0, []
    for now in range(200):
        cpu += 1.95 if now < 50 or now > 120 else 1.0
        told.append(notice.look(float(now), cpu, None, None))
    busy, free = filter(None, told)
    assert busy.endswith("one may be faster: stop, then glassgpt train --resume 'runs/my run' --training.threads 1")
    assert free == "this machine is idle again"


def test_what_never_used_its_cores_is_not_called_busy() -> None:
    notice = LoadNotice(Threads(8, "torch", 8), RUN)
    assert not lines(notice, range(100), share=2, contention=None, load=None)


def test_a_run_with_fewer_threads_is_told_when_the_machine_is_idle_again() -> None:
    notice = LoadNotice(Threads(1, "trial", 2), RUN)
    assert not lines(notice, range(100), share=1, contention=False, load=1.9)
    (line,) = lines(notice, range(100, 300), share=1, contention=False, load=1.1)
    assert line.endswith(
        "2 threads would be faster: stop, then glassgpt train --resume 'runs/my run' --training.threads 2"
    )


@pytest.mark.parametrize("chosen_by", ["environment", "recipe"])
def test_who_chose_one_thread_is_told_nothing(chosen_by: threads.Source) -> None:
    notice = LoadNotice(Threads(1, chosen_by, 2 if chosen_by == "recipe" else 1), RUN)
    assert not lines(notice, range(300), share=1, contention=True, load=0.1)


# --- what the bench says ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("busy")
def test_the_bench_says_who_chose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from glassgpt.bench.machine import this_machine

    threads.settle()
    machine = this_machine(torch.device("cpu"))
    assert (machine.threads, machine.threads_chosen_by) == (1, "trial")
    assert str(machine).endswith(", 1 thread, chosen by: trial)")
    assert json.loads(json.dumps(machine.to_dict()))["threads_chosen_by"] == "trial"
    threads.use(3, "option")
    assert str(this_machine(torch.device("cpu"))).endswith(", 3 threads, chosen by: option)")
