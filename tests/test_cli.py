"""The commands as a user meets them: output where it belongs, exit codes, pipes, help."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glassgpt.recipes import load_recipe, recipe_names
from glassgpt.runs import read_metrics
from tests.conftest import SMALL, TEXT, call, command, corpus_or_skip


def test_train_says_what_matters(text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--data", text_file, "--out", tmp_path / "run", *SMALL) == 0
    said = capsys.readouterr().out
    for words in (
        "parameters",
        "val",
        "tokens/s",
        "this model",
        "bigram baseline",
        "a sample",
        "curves.png",
        "try next",
    ):
        assert words in said, words
    suggested = [line.strip() for line in said.splitlines() if line.startswith("  glassgpt")]
    assert [line.split()[1] for line in suggested] == ["generate", "inspect", "evaluate", "train"]
    assert "\x1b" not in said  # plain text where there is no terminal


def test_the_suggested_commands_work(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("generate", trained_run, "--prompt", "the") == 0
    assert call("inspect", trained_run, "--prompt", "the", "--out", tmp_path / "inside", "--no-pictures") == 0
    assert call("evaluate", trained_run) == 0


def test_runs_without_a_name_get_free_ones(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call("train", "default", "--data", text_file, *SMALL) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["default", "default-2"]


def test_any_text_works_with_the_default_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No character of the recipe's own prompt is in it."""
    (tmp_path / "text.txt").write_text("день за днём идёт снег " * 30, encoding="utf-8")
    assert call("train", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", *SMALL) == 0


def test_generate_writes_text_to_stdout_alone(trained_run: Path) -> None:
    done = command("generate", trained_run, "--prompt", "the cat", "--seed", 3, "--max-new-tokens", 20)
    assert done.returncode == 0
    text = done.stdout.decode()
    assert text.startswith("the cat")
    assert len(text) == len("the cat") + 20 + 1
    assert done.stderr == b""
    again = command("generate", trained_run, "--seed", 3, "--max-new-tokens", 20, stdin=b"the cat")
    assert again.stdout == done.stdout


def test_generate_shows_the_seed_it_chose(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("generate", trained_run, "--prompt", "the", "--max-new-tokens", 20) == 0
    first = capfd.readouterr()
    seed = first.err.split()[1]
    assert call("generate", trained_run, "--prompt", "the", "--max-new-tokens", 20, "--seed", seed) == 0
    assert capfd.readouterr().out == first.out


def test_several_samples(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--prompt", "the", "--num-samples", 3, "--seed", 5, "--max-new-tokens", 30, "--temperature", 2)
    assert call("generate", trained_run, *options) == 0
    shown = capfd.readouterr()
    assert shown.err.count("of 3 ---") == 3
    assert (
        call("generate", trained_run, "--prompt", "the", "--seed", 6, "--max-new-tokens", 30, "--temperature", 2) == 0
    )
    second = capfd.readouterr().out
    assert second in shown.out and not shown.out.startswith(second)


def test_greedy_is_temperature_zero(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = []
    for option in (["--greedy"], ["--temperature", 0], ["--top-k", 1]):
        assert call("generate", trained_run, "--prompt", "the", "--max-new-tokens", 25, *option) == 0
        texts.append(capfd.readouterr().out)
    assert len(set(texts)) == 1


def test_stop_strings_end_the_text(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--prompt", "the", "--max-new-tokens", 60, "--greedy")
    assert call("generate", trained_run, *options) == 0
    whole = capfd.readouterr().out.removeprefix("the")
    stop = whole[10:12]
    assert call("generate", trained_run, *options, "--stop", "@@@", "--stop", stop) == 0
    assert capfd.readouterr().out == "the" + whole[: whole.index(stop)] + "\n"


def test_the_text_streams(trained_run: Path) -> None:
    """The beginning can be read while the rest is still being written."""
    words = [
        sys.executable,
        "-m",
        "glassgpt",
        "generate",
        str(trained_run),
        "--prompt",
        "the",
        "--max-new-tokens",
        "100000",
        "--mode",
        "eager",  # for so many, it would compile first
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert len(process.stdout.read(50)) == 50
        assert process.poll() is None
        process.stdout.close()  # as `| head` does
        assert process.wait(300) == 0
        assert b"Traceback" not in process.stderr.read()


def test_evaluate_as_json(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", trained_run, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    summary = json.loads((trained_run / "summary.json").read_text())
    assert result["loss"] == pytest.approx(summary["loss"], rel=1e-5)
    assert result["bits_per_byte"] == pytest.approx(summary["bits_per_byte"], rel=1e-5)
    assert result["tokens"] == result["bytes"] == len(TEXT) - int(len(TEXT) * 0.9) - 1


def test_evaluate_on_another_text(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.txt"
    other.write_text("the dog sat on the cat.\n", encoding="utf-8")
    assert call("evaluate", trained_run, "--data", other, "--json") == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 23


def test_bytes_are_counted_not_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("жук и ёж\n" * 100, encoding="utf-8")
    results = []
    for kind in ("char", "byte"):
        run = tmp_path / kind
        assert call("train", "--data", tmp_path / "text.txt", "--out", run, *SMALL, "--tokenizer.kind", kind) == 0
        capsys.readouterr()
        assert call("evaluate", run, "--json") == 0
        results.append(json.loads(capsys.readouterr().out))
    chars, raw = results
    assert raw["tokens"] == raw["bytes"]
    assert chars["bytes"] > chars["tokens"]
    assert abs(chars["bytes"] - raw["bytes"]) <= 1  # less the first token, a character of two bytes


def test_info(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what, parameters in (("gpt2", 124_439_808), ("gpt2-124m", 124_412_160), ("shakespeare-char", 10_770_816)):
        assert call("info", what, "--json") == 0
        assert json.loads(capsys.readouterr().out)["parameters"] == parameters
    assert call("info", trained_run) == 0
    assert "attention" in capsys.readouterr().out
    assert call("info", "gpt2", "--json", "--model.n-layer", 24, "--model.n-head=16", "--model.n-embd=1024") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 354_823_168


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recipes") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in recipe_names())


def test_help_shows_every_field_with_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    from glassgpt.recipes import Recipe

    for section, info in Recipe.model_fields.items():
        for field in getattr(info.annotation, "model_fields", {}):
            assert f"--{section}.{field.replace('_', '-')}" in shown


@pytest.mark.parametrize("name", ["train", "generate", "evaluate", "info", "recipes"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--help") == 0
    assert f"glassgpt {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import glassgpt

    assert call("--version") == 0
    assert capsys.readouterr().out.strip() == glassgpt.__version__


def test_text_from_standard_input(tmp_path: Path) -> None:
    """It is kept in the run folder, so that the run can be evaluated and can go on."""
    run = tmp_path / "run"
    done = command("train", "--data", "-", "--out", run, *SMALL, stdin=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert (run / "input.txt").read_text(encoding="utf-8") == TEXT
    assert call("evaluate", run) == 0
    assert call("train", "--resume", run, "--training.max-steps", 14) == 0


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_the_run_goes_on(name: str, text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*SMALL, "--training.max-steps", "100000", "--training.eval-every", "100000"]
    words = [sys.executable, "-m", "glassgpt", "train", "--data", str(text_file), "--out", str(run), *settings]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and len(read_metrics(metrics)) > 20):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert f"glassgpt train --resume {run}".encode() in out
    steps = [row["step"] for row in read_metrics(metrics)]
    assert steps == list(range(1, len(steps) + 1))
    assert call("generate", run, "--prompt", "the", "--max-new-tokens", 5) == 0  # it can be used as it is
    assert call("train", "--resume", run, "--training.max-steps", steps[-1] + 5) == 0
    assert [row["step"] for row in read_metrics(metrics)] == list(range(1, steps[-1] + 6))


@pytest.mark.skipif(os.name == "nt", reason="closes a POSIX terminal")
@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_closed_terminal_saves_and_the_run_goes_on(ignored: bool, text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    most = 400 if ignored else 100_000
    settings = [*SMALL, "--training.max-steps", str(most), "--training.eval-every", str(most)]
    words = [sys.executable, "-m", "glassgpt", "train", "--data", str(text_file), "--out", str(run), *settings]
    ours, theirs = os.openpty()
    terminal = os.ttyname(theirs)  # of a new session's first process, it becomes the terminal when that opens it
    before, output = ("trap '' HUP;", tmp_path / "nohup.out") if ignored else ("", terminal)
    shell = f"{before} exec {shlex.join(words)} <{terminal} >{output} 2>&1"
    with subprocess.Popen(["sh", "-c", shell], stdin=subprocess.DEVNULL, start_new_session=True) as process:
        os.close(theirs)
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and len(read_metrics(metrics)) > 20):
            assert process.poll() is None
            time.sleep(0.02)
        os.close(ours)
        process.wait(timeout=300)
    steps = [row["step"] for row in read_metrics(metrics)]
    assert len(steps) == most if ignored else 20 < len(steps) < most
    assert f"step-{len(steps):08}" in [path.name for path in (run / "checkpoints").iterdir()]
    assert call("train", "--resume", run, "--training.max-steps", len(steps) + 5) == 0
    assert [row["step"] for row in read_metrics(metrics)] == list(range(1, len(steps) + 6))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_one_line(trained_run: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "glassgpt", "generate", str(trained_run), "--prompt", "the", "--seed", "1"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["glassgpt: input or output: No space left on device"]


def test_weights_that_cannot_be_written_are_one_line(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk fills up at the third evaluation; what was saved before is whole, and the run can go on."""
    import safetensors.torch

    original, calls = safetensors.torch.save_file, []

    def save_file(tensors, path, metadata):
        calls.append(path)
        if len(calls) > 6:
            Path(path).write_bytes(b"half of")
            raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device")
        original(tensors, path, metadata)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", save_file)
        assert call("train", "--data", text_file, "--out", run, *SMALL) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device" in error
    assert not list(run.rglob("*.tmp"))
    assert call("generate", run, "--prompt", "the") == 0
    assert call("train", "--resume", run) == 0


def test_a_dotted_field_reaches_the_recipe_whatever_its_type(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fields = ["--model.tie-weights", "false", "--model.qk-norm", "--training.eval-tokens=50", "--sampling.stop=x"]
    assert call("train", "--data", text_file, "--out", run, *SMALL, *fields, "--training.max-seconds", "none") == 0
    recipe = load_recipe(run / "recipe.toml")
    assert recipe.model.tie_weights is False and recipe.model.qk_norm is True
    assert recipe.training.eval_tokens == 50
    assert recipe.training.max_seconds is None
    assert recipe.sampling.stop == ["x"]


def test_words_for_true_and_false_and_values_taken_back() -> None:
    from glassgpt.cli.overrides import take_overrides

    rest, found = take_overrides(
        [
            *("train", "--model.bias", "False", "--model.qk-norm", "--model.qkv-bias", "shakespeare-cpu"),
            *("--sampling.stop", "a", "--sampling.stop", "none", "--training.max-seconds=none", "--", "--a.b"),
        ]
    )
    assert rest == ["train", "shakespeare-cpu", "--", "--a.b"]
    assert found == {
        "model": {"bias": "False", "qk_norm": "true", "qkv_bias": "true"},
        "sampling": {"stop": []},
        "training": {"max_seconds": None},
    }


def test_a_prompt_of_dashes_and_dots_is_no_field(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("generate", trained_run, "--prompt", "--- the. cat") == 2
    assert "character '-'" in capfd.readouterr().err


def test_brackets_in_paths_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a [draft].txt").write_text(TEXT, encoding="utf-8")
    run = tmp_path / "run [b] [/b] 1"
    assert call("train", "--data", tmp_path / "a [draft].txt", "--out", run, *SMALL) == 0
    said = capsys.readouterr().out
    assert "a [draft].txt" in said
    assert f"evaluate '{run}'" in said  # quoted, so that it can be pasted
    assert call("info", run) == 0 == call("evaluate", run)


def test_a_run_goes_on_when_nobody_reads_what_it_says(text_file: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "glassgpt",
        "train",
        "--data",
        str(text_file),
        "--out",
        str(tmp_path / "run"),
        *SMALL,
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(120) == 0, error
    assert (tmp_path / "run" / "summary.json").exists()


def test_unknown_characters_count_as_the_bytes_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "other.txt").write_text("é the cat é", encoding="utf-8")
    run = tmp_path / "run"
    assert call("train", "--data", tmp_path / "text.txt", "--out", run, *SMALL, "--tokenizer.unknown") == 0
    capsys.readouterr()
    assert call("evaluate", run, "--data", tmp_path / "other.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == len("é the cat é".encode())


def test_windows_newlines_and_marks_on_standard_input_are_no_text(trained_run: Path) -> None:
    done = command("generate", trained_run, "--greedy", "--max-new-tokens", 5, stdin=b"\xef\xbb\xbfthe\r\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"the\n")


def test_text_with_odd_newlines_from_standard_input_can_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = command("train", "--data", "-", "--out", run, *SMALL, stdin=TEXT.replace("\n", "\r\r\n").encode())
    assert done.returncode == 0, done.stderr
    assert call("evaluate", run) == 0


def test_a_runs_own_recipe_gives_its_name_on(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", trained_run / "recipe.toml") == 0
    assert (tmp_path / "runs" / trained_run.name / "summary.json").exists()


# --- the recipes -------------------------------------------------------------------------------------------------


def test_every_recipe_is_whole() -> None:
    assert set(recipe_names()) == {
        *("default", "shakespeare-byte", "shakespeare-char", "shakespeare-12k", "shakespeare-cpu", "pooh", "gpt2-124m"),
        *("shakespeare-bpe", "shakespeare-gpt2", "shakespeare-sprint", "shakespeare-2min", "shakespeare-char-fast"),
        "pooh-fast",
    }
    for name in recipe_names():
        assert load_recipe(name).description


@pytest.mark.parametrize(
    "name",
    [
        *("shakespeare-byte", "shakespeare-char", "shakespeare-12k", "shakespeare-cpu", "pooh"),
        *("shakespeare-sprint", "shakespeare-2min", "shakespeare-char-fast", "pooh-fast"),
    ],
)
def test_recipes_run(name: str, tmp_path: Path) -> None:
    """Each by name, with its own text, tokenizer and model family, only smaller and shorter."""
    corpus_or_skip(load_recipe(name).data.source[0])
    options = [*SMALL, "--training.eval-tokens", "64", "--data.val-fraction", "0.01"]
    if name.startswith("pooh"):
        options = [*SMALL, "--model.block-size", "64"]
    assert call("train", name, "--out", tmp_path / "run", *options) == 0


def test_recipes_match_what_they_follow() -> None:
    byte, char, cpu, pooh, gpt2 = (
        load_recipe(name) for name in ("shakespeare-byte", "shakespeare-char", "shakespeare-cpu", "pooh", "gpt2-124m")
    )
    assert (byte.tokenizer.kind, byte.model.n_inner, byte.model.block_size, byte.sampling.temperature) == (
        *("byte", 768, 128),
        0,
    )
    assert (char.model.dropout, char.model.bias, char.model.tie_weights, char.model.block_size) == (
        0.2,
        True,
        True,
        256,
    )
    t = cpu.training
    assert (t.max_steps, t.batch_size, t.learning_rate, t.min_learning_rate, t.warmup_steps) == (
        2000,
        12,
        1e-3,
        1e-4,
        100,
    )
    assert (t.beta1, t.beta2, t.weight_decay, t.grad_clip, t.eval_every, t.schedule) == (
        0.9,
        0.99,
        0.1,
        1,
        250,
        "cosine",
    )
    assert (cpu.model.bias, cpu.model.activation, cpu.model.dropout) == (False, "gelu", 0)
    assert (pooh.data.val_fraction, pooh.data.order, pooh.data.stride, pooh.training.epochs) == (0, "epochs", 1, 60)
    assert (gpt2.model.vocab_size, gpt2.model.block_size, gpt2.model.has_qkv_bias) == (50257, 1024, False)
