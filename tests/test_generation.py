"""The token loop against the plain model, the stream against the whole."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import glassgpt
from glassgpt.errors import UserError
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.engine import Engine, Request
from glassgpt.generation.text import StopStrings, generate_text, stream_text
from glassgpt.model import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.tokenizers import ByteTokenizer, CharTokenizer

CONFIG = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16, init_std=0.3)


def make_gpt(**changes) -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG.replace(**changes)).eval()


class Uncached(nn.Module):
    """A model that hides its cache: everything is read again for each token."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids)


def ids_of(model: nn.Module, prompt: list[int], config: SamplingConfig, seed: int = 0) -> list[int]:
    engine = Engine(model, block_size=CONFIG.block_size, mode="eager")
    engine.add(Request(prompt, config, seed))
    written = []
    while not engine.is_idle:
        written += [token.id for token in engine.step()]
    return written


# --- the token loop ----------------------------------------------------------------------------------------------


def greedy_by_hand(model: nn.Module, ids: list[int], steps: int) -> list[int]:
    """The definition: argmax of the last logit of the whole context; cropped to its last half when it is full."""
    context, written = list(ids), []
    for _ in range(steps):
        if len(context) > CONFIG.block_size:
            context = context[-(CONFIG.block_size // 2) :]
        with torch.no_grad():
            token = int(model(torch.tensor([context]))[0, -1].argmax())
        context.append(token)
        written.append(token)
    return written


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary", "none"])
@pytest.mark.parametrize("length", [1, 3, 8])
def test_greedy_is_argmax_by_hand_past_the_block_too(position: str, length: int) -> None:
    model = make_gpt(position=position)
    prompt = torch.randint(11, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    config = SamplingConfig(temperature=0, max_new_tokens=30)
    expected = greedy_by_hand(model, prompt, 30)
    assert ids_of(model, prompt, config) == ids_of(Uncached(model), prompt, config) == expected


def test_a_block_of_one_token() -> None:
    model = make_gpt(block_size=1)
    engine = Engine(model, mode="eager")
    engine.add(Request([3], SamplingConfig(temperature=0, max_new_tokens=5)))
    written = [token.id for _ in range(5) for token in engine.step()]
    for before, after in zip([3, *written], written, strict=False):
        assert after == int(model(torch.tensor([[before]])).argmax())


def test_sampled_text_is_the_same_with_and_without_a_cache() -> None:
    model = make_gpt()
    config = SamplingConfig(temperature=1.0, top_k=5, max_new_tokens=20)
    assert ids_of(model, [1, 2, 3], config, 7) == ids_of(Uncached(model), [1, 2, 3], config, 7)


def test_any_module_that_maps_ids_to_logits_can_be_sampled() -> None:
    class CountsUp(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            return nn.functional.one_hot((ids + 1) % 11, 11).float()

    written = ids_of(CountsUp(), [4], SamplingConfig(temperature=0, max_new_tokens=9))
    assert written == [5, 6, 7, 8, 9, 10, 0, 1, 2]


def test_the_repetition_penalty_sees_the_prompt_and_what_was_written() -> None:
    class AlwaysTheSame(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            return torch.arange(1.0, 12.0).expand(*ids.shape, 11)

    config = SamplingConfig(temperature=0, repetition_penalty=1e9, max_new_tokens=5)
    assert ids_of(AlwaysTheSame(), [9, 7], config) == [10, 8, 6, 5, 4]


# --- text --------------------------------------------------------------------------------------------------------


def through(stops: list[str], pieces: list[str]) -> str:
    matcher, shown = StopStrings(stops), ""
    for piece in pieces:
        shown += matcher.push(piece)
        if matcher.stopped:
            return shown
    return shown + matcher.finish()


def cut_by_hand(text: str, stops: list[str]) -> str:
    """The definition: the shortest beginning of the text that ends in a stop string, without that string."""
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if stop and text[:end].endswith(stop):
                return text[: end - len(stop)]
    return text


@given(
    text=st.text("ab", max_size=14),
    stops=st.lists(st.text("ab", max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 14), max_size=6),
)
def test_stop_strings_however_the_text_is_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert through(stops, pieces) == cut_by_hand(text, stops)


def test_an_overlapping_stop_string_is_found() -> None:
    assert through(["aab"], ["a", "a", "a", "b", "c"]) == "a"


def test_nothing_of_a_stop_string_leaks_while_it_may_still_come() -> None:
    matcher = StopStrings(["STOP"])
    assert matcher.push("go ST") == "go "
    assert matcher.push("A") == "STA"
    assert matcher.push("STOP and more") == ""
    assert matcher.stopped


CHARS = CharTokenizer("abcdefghij\n")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_stream_joined_is_the_whole_text(temperature: float) -> None:
    model = make_gpt(init_std=0.02)
    config = SamplingConfig(temperature=temperature, max_new_tokens=40, stop=["ab", "ba"])
    pieces = list(stream_text(model, CHARS, "abc", config, block_size=8, seed=1))
    whole = generate_text(model, CHARS, "abc", config, block_size=8, seed=1)
    assert "".join(pieces) == whole.text


def test_finish_reasons() -> None:
    class Writes(nn.Module):
        """Always the next byte of a text, whatever was written."""

        def __init__(self, ids: list[int]):
            super().__init__()
            self.weight, self.ids, self.at = nn.Parameter(torch.zeros(1)), ids, -1

        def forward(self, ids: Tensor) -> Tensor:
            self.at += 1
            logits = torch.zeros(1, ids.shape[1], 257)
            logits[0, -1, self.ids[self.at]] = 1.0
            return logits

    tokenizer, greedy = ByteTokenizer(), SamplingConfig(temperature=0, max_new_tokens=6, stop=["!"])
    ended = generate_text(Writes([104, 105, 256, 0, 0, 0]), tokenizer, "x", greedy, block_size=8)
    assert (ended.text, ended.finish_reason, ended.tokens) == ("hi", "stop", 3)
    stopped = generate_text(Writes([*b"oh! no"]), tokenizer, "x", greedy, block_size=8)
    assert (stopped.text, stopped.finish_reason, stopped.tokens) == ("oh", "stop", 3)
    held = generate_text(Writes([*b"end ST"]), tokenizer, "x", greedy.replace(stop=["STOP"]), block_size=8)
    assert (held.text, held.finish_reason) == ("end ST", "length")  # it might have become a stop string, and did not
    full = generate_text(Writes([*"a🎉é".encode()]), tokenizer, "x", greedy, block_size=8)
    assert (full.text, full.finish_reason, full.tokens) == ("a🎉\ufffd", "length", 6)  # the last character was cut


def test_a_model_with_room_for_more_tokens_never_writes_them() -> None:
    model = make_gpt(vocab_size=500, init_std=0.02)
    written = generate_text(model, CHARS, "abc", SamplingConfig(temperature=1.0, max_new_tokens=50), block_size=8)
    assert written.tokens == 50


def test_writing_leaves_the_model_in_the_mode_it_was_in() -> None:
    model = make_gpt(dropout=0.5).train()
    generate_text(model, CHARS, "abc", SamplingConfig(max_new_tokens=3), block_size=8)
    assert model.training


def test_a_model_that_diverged_writes_nothing() -> None:
    model = make_gpt()
    torch.nn.init.constant_(model.final_norm.weight, math.nan)
    with pytest.raises(UserError, match="not a number"):
        generate_text(model, CHARS, "abc", SamplingConfig(), block_size=8)


def test_prompts_are_checked() -> None:
    model, config = make_gpt(), SamplingConfig(max_new_tokens=3)
    for prompt, message in (("", "empty"), ("abcabcabc", "9 tokens, but the model looks at 8"), ("xyz", "'x'")):
        with pytest.raises(UserError, match=message):
            generate_text(model, CHARS, prompt, config, block_size=8)
    cropped = generate_text(model, CHARS, "jabcabcab", config, block_size=8, crop_prompt=True)
    assert cropped == generate_text(model, CHARS, "abcabcab", config, block_size=8)


def test_from_python(trained_run: Path) -> None:
    run = glassgpt.load(trained_run, device="cpu")
    text = run.generate("the ", max_new_tokens=20, temperature=0)
    assert len(text) == 20
    assert "".join(run.stream("the ", max_new_tokens=20, temperature=0)) == text
    assert run.generate("the ", seed=1) == run.generate("the ", seed=1) != run.generate("the ", seed=2)
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        run.generate("the ", temprature=1)
    with pytest.raises(UserError, match="greater than or equal to 0"):
        run.generate("the ", temperature=-1)


def test_texts_of_one_run_may_be_written_in_turn_and_by_threads(trained_run: Path) -> None:
    run = glassgpt.load(trained_run, device="cpu")
    prompts = ["the cat ", "the dog ", "on the ", "sat "]
    alone = [run.generate(prompt, seed=7, max_new_tokens=30) for prompt in prompts]
    streams = [run.stream(prompt, seed=7, max_new_tokens=30) for prompt in prompts]
    next(streams[0])  # one that is never ended holds nobody up
    written = ["", "", ""]
    for pieces in itertools.zip_longest(*streams[1:], fillvalue=""):
        written = [text + piece for text, piece in zip(written, pieces, strict=True)]
    assert written == alone[1:]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda prompt: run.generate(prompt, seed=7, max_new_tokens=30), prompts)) == alone


def test_8_bit_weights_are_taken_once_only(trained_run: Path) -> None:
    once, twice = glassgpt.load(trained_run, device="cpu"), glassgpt.load(trained_run, device="cpu")
    twice.generate("the ", max_new_tokens=2)  # what was made in float32 is not kept
    for run in (once, twice, twice):
        run.use_int8()
    twice.engine_options = {"weights": "int8"}
    assert once.generate("the ", max_new_tokens=30) == twice.generate("the ", max_new_tokens=30)


def test_an_empty_string_to_stop_at_is_refused() -> None:
    with pytest.raises(UserError, match="stop"):
        SamplingConfig().replace(stop=[""])
