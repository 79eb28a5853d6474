"""Numbers of any size, patterns and pieces that would take all time or memory, wrong kinds of arguments: one line."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassgpt.cli.overrides import take_overrides
from glassgpt.device import check_device_name, choose_device
from glassgpt.errors import UserError
from glassgpt.generation.beam import beam_search
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.contrastive import contrastive_search
from glassgpt.generation.engine import Engine, Request
from glassgpt.generation.text import generate_text, prompt_ids, stream_text
from glassgpt.model import ModelConfig, make_model, sizing
from glassgpt.model.sizing import sizes
from glassgpt.parallel import ordered_map
from glassgpt.recipes import Recipe, load_recipe
from glassgpt.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    WordTokenizer,
    bpe,
    bpe_training,
    expressions,
)
from glassgpt.tokenizers.bpe import BYTES
from glassgpt.tokenizers.bpe_training import count
from glassgpt.tokenizers.pieces import Pieces
from glassgpt.tokenizers.word import cut_words
from tests.conftest import SMALL, call


def one_line(error: BaseException, *words: str) -> None:
    message = str(error)
    assert "\n" not in message and len(message) < 500, message
    for word in words:
        assert word in message


# Numbers


def numbers() -> Iterator[tuple[str, str, Any]]:
    """Every field of a recipe that counts or measures something."""
    for section, info in Recipe.model_fields.items():
        for field, inner in getattr(info.annotation, "model_fields", {}).items():
            if any(kind in str(inner.annotation) for kind in ("int", "float")):
                yield section, field, inner


NUMBERS = list(numbers())
EXTREMES = [
    *("0", "-1", str(2**31), str(2**63 - 1), str(2**63), str(10**25), "9" * 400, "9" * 5_000, "-" + "9" * 400),
    *("1e300", "-1e300", "5e-324", "nan", "inf", "-inf", "1e999", "", "1e5", "0x10", " 1 ", "1_000", "²", "٣", "1\0"),
]


@pytest.mark.parametrize(("section", "field", "inner"), NUMBERS, ids=[f"{a}.{b}" for a, b, _ in NUMBERS])
def test_any_number_is_taken_or_refused_by_name(section: str, field: str, inner: Any) -> None:
    for value in [*EXTREMES, 10**400, -(10**400), 2**63, math.inf, math.nan, 1e300, True, b"1", [1], {}]:
        if isinstance(value, str):
            _, overrides = take_overrides([f"--{section}.{field.replace('_', '-')}={value}"])
        else:
            overrides = {section: {field: value}}
        try:
            recipe = load_recipe("default", overrides)
        except UserError as error:
            one_line(error, field)
            continue
        taken = getattr(getattr(recipe, section), field)
        assert not isinstance(taken, int | float) or abs(taken) < 2**63  # what any kernel takes, and no infinity
        sizes(recipe.model.replace(vocab_size=recipe.model.vocab_size or 65))


@pytest.mark.parametrize(("section", "field", "inner"), NUMBERS, ids=[f"{a}.{b}" for a, b, _ in NUMBERS])
def test_every_number_has_an_upper_bound(section: str, field: str, inner: Any) -> None:
    for value in ("1e300", "9" * 30):
        with pytest.raises(UserError, match=field) as error:
            load_recipe("default", {section: {field: value}})
        one_line(error.value)


@pytest.mark.parametrize(
    "option",
    [
        *(
            "training.learning-rate=1e3",
            "training.eps=1e-30",
            "training.beta1=0.9999999999999999",
            "model.init-std=1e3",
        ),
        *("model.norm-eps=1e-30", "model.logit-softcap=1e-6", "sampling.temperature=1e-320"),
        *("training.weight-decay=1e3", "sampling.repetition-penalty=1e12", "training.grad-clip=5e-324"),
    ],
)
def test_what_is_just_within_bounds_trains_or_says_why_not(
    option: str, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = call("train", "--data", text_file, "--out", tmp_path / "run", *SMALL, f"--{option}")
    assert code in (0, 2)
    assert len(capfd.readouterr().err.splitlines()) == (1 if code else 0)


def test_a_model_that_no_memory_holds_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = ModelConfig(vocab_size=65, n_layer=4096, n_head=1, n_embd=2**18)
    with pytest.raises(UserError, match=r"a model of 3,377,713,965,170,688 parameters takes .* GiB at least"):
        make_model(huge)
    for position, block in (("rotary", 2**24), ("sinusoidal", 2**24)):  # few parameters, large tables
        with pytest.raises(UserError, match="GiB at least"):
            make_model(
                ModelConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=2**14, block_size=block, position=position)
            )
    monkeypatch.setattr(sizing, "memory", lambda: None)  # as on Windows
    with pytest.raises(UserError, match="GiB at least"):
        make_model(huge)
    for wrong in (None, 5, {}, ModelConfig):
        with pytest.raises(UserError, match="a ModelConfig is needed"):
            make_model(wrong)  # type: ignore[arg-type]


# Devices


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cuda:99999999999999999999",
            "cuda:-1",
            "CUDA",
            "cpu:0",
            "cuda:٣",
            "cuda:",
            "cuda:01",
            "cuda:1000",
            "",
            " cpu",
        ),
        *("cuda\n", "mps:0", "meta", "x" * 5_000, "\x1b[2J", None, 5),
    ],
)
def test_what_is_no_device_is_refused(name: Any) -> None:
    for check in (check_device_name, choose_device):
        with pytest.raises(UserError, match="unknown device") as error:
            check(name)
        one_line(error.value)


@given(st.text(max_size=8) | st.from_regex(r"cuda:\d{1,25}"))
def test_any_device_name_is_known_or_refused(name: str) -> None:
    with suppress(UserError):
        torch.device(check_device_name(name).replace("auto", "cpu"))


def test_a_device_that_does_not_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "zeros", fail)
    for name in ("auto", "cuda", "cuda:0"):
        with pytest.raises(UserError, match=r"does not start.*busy or unavailable.*--device cpu") as error:
            choose_device(name)
        one_line(error.value)


# Patterns

ATOMS = [
    *("a", "b", "(", ")", "(?:", "(?=", "(?i:", "[", "]", "[^", "\\", "\\]", "{9}", "{7,}", "{3,8}", "{,5}", "{99999}"),
    *(
        "?",
        "*",
        "+",
        "++",
        "+?",
        "|",
        "{",
        "}",
        "^",
        "$",
        "(?P<n>",
        "--",
        "[:alpha:]",
        "\\p{L}",
        "\\N{SPACE}",
        "(?#",
        "#",
    ),
    *(
        "\n",
        "(?>",
        ".",
        "\\d",
        "{e<=2}",
        "(?(1)",
        "(?<=",
        "(?x)",
        "(?|",
        "(?r)",
        "\\L<a>",
        "\ud800",
        "\0",
    ),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(ATOMS), max_size=12).map("".join))
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of regex, about classes within classes
def test_any_pattern_is_refused_or_as_large_as_was_estimated(pattern: str) -> None:
    try:
        pieces = Pieces(pattern)
    except UserError as error:
        one_line(error)
        return
    code = pieces._matcher._compiled._pickled_data[2]  # type: ignore[attr-defined] # what regex made of it
    assert len(code) <= 20 * (expressions.parts(pattern) + 10)
    assert "".join(pieces.cut("ab a\n1")) == "ab a\n1"


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?:(?:(?:(?:a{1000}){1000}){1000}){1000})", "a{100001}", "(?:ab){60000}", "(?:[a-z]{400}|b){300}"),
        *(
            "(?:" * 60 + "a" + ")+?" * 60,
            "(?:" * 40 + "a" + "){1,2}" * 40,
            "(?#[)(?:a{1000}){1000}",
            "[(](?:a{999}){999}",
        ),
        *("(?x) # [\n (?:a{1000}){1000}", f"a{{{'9' * 5_000}}}", "a" * 10_001),
    ],
)
def test_a_pattern_that_would_explode_is_refused_before_it_is_compiled(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex, "compile", lambda _: pytest.fail("compiled"))
    with pytest.raises(UserError, match="neither gpt2 nor gpt4 nor a pattern: it") as error:
        Pieces(pattern)
    one_line(error.value)


@pytest.mark.parametrize(
    "pattern", [r"\p{L}{1,3}", r"\d{4}-\d{2}-\d{2}|.", r"(?:\d{1,3}){1,4}", r"[^\n]{1,9999}", r"(?:a{20}){20}|[{}]{3}"]
)
def test_usual_repeats_are_taken(pattern: str) -> None:
    assert "".join(Pieces(pattern).cut("2024-01-02 abc")) == "2024-01-02 abc"


def slow(pattern: str = r"(a|a)+$|(?s:.)") -> BPETokenizer:
    """A tokenizer whose pattern takes for ever on the right text, and is given up on after a moment."""
    tokenizer = BPETokenizer(BYTES, pattern)
    tokenizer.pieces._matcher.seconds = 0.05
    return tokenizer


@pytest.mark.parametrize("pattern", [r"(a|a)+$", r"(?:(a)|a|ab)*[bc]", r"(?:.*){25}[bc]", r"(?:a|a?)+$"])
def test_a_pattern_that_never_ends_is_given_up_on(pattern: str) -> None:
    for method in (BPETokenizer.encode, BPETokenizer.encode_by_hand):
        with pytest.raises(UserError, match="takes all time on this text") as error:
            method(slow(pattern + "|(?s:.)"), "a" * 200 + "!")
        one_line(error.value, pattern[:10])


def test_a_pattern_that_calls_itself_without_end_is_given_up_on() -> None:
    with pytest.raises(UserError, match=r"takes all (memory|time) on this text"):
        BPETokenizer(BYTES, "(?R)").encode("a")


def test_so_it_is_in_other_processes() -> None:
    texts = ["ab", "a" * 100 + "!"]
    with pytest.raises(UserError, match="takes all time"):
        list(ordered_map(slow().encode, texts, 2))
    with pytest.raises(UserError, match="takes all time"):
        count(texts, slow().pieces.cut, workers=2)


def test_patterns_of_ours_do_not_look_at_the_clock() -> None:
    assert [Pieces(name)._matcher.seconds for name in ("gpt2", "gpt4", r"\w+")] == [None, None, expressions.SECONDS]


# Pieces and tokens


def test_a_piece_without_a_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bpe, bpe_training):
        monkeypatch.setattr(module, "LONGEST_PIECE", 1_000)
    monkeypatch.setattr(bpe.check_pieces, "__defaults__", (1_000,))
    tokenizer, own = BPETokenizer(BYTES), BPETokenizer(BYTES, r"[^\n]+|\n")
    text = ("some words and some more, " * 50 + "\n") * 5
    assert tokenizer.encode(text) == list(text.encode())  # it has cuts
    for run in (
        lambda: tokenizer.encode("b " + "a" * 1_001),
        lambda: own.encode(text),
        lambda: own.encode_by_hand(text),
        lambda: count([text], own.pieces.cut),
        lambda: count(["a " * 900, "a" * 1_001], cut_words),
    ):
        with pytest.raises(UserError, match=r"a piece of 1,\d+ characters") as error:
            run()
        one_line(error.value)


@given(st.lists(st.text("ab ", max_size=30), max_size=20), st.sampled_from(["gpt2", "gpt4"]))
def test_a_long_text_is_encoded_in_parts(parts: list[str], pattern: str) -> None:
    text = " ".join(parts)
    tokenizer = BPETokenizer([*BYTES, b"ab", b" a", b" ab", b"  "], pattern)
    whole = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "LONGEST_PIECE", 40)
        patch.setattr(bpe.check_pieces, "__defaults__", (10**9,))
        assert tokenizer.encode(text) == whole


def test_counting_forgets_rare_pieces_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe_training, "MOST_CHARACTERS", 20_000)
    monkeypatch.setattr(bpe_training, "_grouped", lambda texts: ([text] for text in texts))
    texts = ["often " * 9 + f"{n:0500} " + f"{n:0700} " * (n % 3) for n in range(60)]
    one = count(texts, str.split)
    assert sum(map(len, one)) <= 20_000 + 2_000  # the last text comes on top
    assert one["often"] == 540
    assert one == count(texts, str.split, workers=2)


def test_long_tokens_are_checked_without_looking_at_every_place() -> None:
    doubled = [b"ab" * 2**n for n in range(19)]  # up to half a megabyte
    assert BPETokenizer([*BYTES, *doubled]).encode("ab" * 2**18) == [256 + 18]
    for wrong in (b"ab" * 300_000, b"ab" * 2**18 + b"c"):
        with pytest.raises(ValueError, match="is not made of two earlier ones") as error:
            BPETokenizer([*BYTES, *doubled[:-2], wrong])
        one_line(error.value)


def test_tokens_that_take_too_long_to_check_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "MOST_COMPARED", 100_000)
    generator = random.Random(0)
    tokens = [b"a" * n for n in range(2, 90)]
    BPETokenizer([*BYTES, *tokens])
    tokens += [generator.randbytes(n - 1) + b"a" * 80 for n in range(90, 200)]
    with pytest.raises(ValueError, match=r"too long to be looked through|not made of two") as error:
        BPETokenizer([*BYTES, *tokens])
    one_line(error.value)


@pytest.mark.parametrize("special", [["x" * 1_001], [str(n) for n in range(2**16 + 1)]])
def test_special_tokens_are_bounded(special: list[str]) -> None:
    with pytest.raises(ValueError, match=r"at most 65,536, of at most 1,000 characters"):
        BPETokenizer(BYTES, special=special)
    with pytest.raises(UserError, match=r"tokenizer.special: fewer than"):
        load_recipe("default", {"tokenizer": {"special": special}})


@given(st.text(st.characters(codec=None) | st.sampled_from("\0\U0010ffffe\u0301\ufe0f\ud800 \r\n")))
def test_words_lose_nothing_of_their_own_text(text: str) -> None:
    tokenizer = WordTokenizer.from_counts(dict.fromkeys(cut_words(text), 1))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    stream = tokenizer.stream()
    assert "".join(map(stream.push, tokenizer.encode(text))) + stream.finish() == text


# Arguments

WRONG = [None, 1.5, "x", -1, 10**30, {}, [1.5], b"x", math.nan, torch.ones(2, 2), np.array([1.5])]


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), CharTokenizer("the"), WordTokenizer(["the"]), BPETokenizer(BYTES)]
)
def test_what_is_no_text_and_what_are_no_ids(tokenizer: Any) -> None:
    for text in (None, 5, b"the", ["the"], ("t",)):
        with pytest.raises(UserError, match="encodes text"):
            tokenizer.encode(text)
    for ids in (None, 5, [None], [1.5], ["x"], {"a": 1}, "the", torch.ones(2, 2), [[1]], [10**400], [-1]):
        with pytest.raises(UserError, match="token id") as error:
            tokenizer.decode(ids)
        one_line(error.value)
    for one in (np.int64(1), torch.tensor(1), True):
        assert tokenizer.decode([one]) == tokenizer.decode([1])
    with pytest.raises(UserError):
        tokenizer.stream().push("x")


def test_a_vocabulary_of_the_wrong_kind() -> None:
    for make in (lambda: CharTokenizer(b"the"), lambda: BPETokenizer(BYTES, b"x"), lambda: Pieces(5)):  # type: ignore[arg-type]
        with pytest.raises(UserError):
            make()


def small_model(**changes: Any) -> nn.Module:
    shape = {"vocab_size": 7, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, "dropout": 0.1}
    return make_model(ModelConfig(**(shape | changes)))


SAMPLING = SamplingConfig(max_new_tokens=3)


@pytest.mark.parametrize("field", ["prompt", "sampling", "seed", "logprobs"])
def test_requests_of_the_wrong_kind_are_refused_by_name(field: str) -> None:
    good: dict[str, Any] = {"prompt": [1, 2], "sampling": SAMPLING, "seed": 0, "logprobs": 0}
    engine = Engine(small_model())
    for wrong in WRONG:
        if field == "logprobs" and wrong is None:
            continue
        with pytest.raises(UserError, match=f"{field}|ids that there are not") as error:
            engine.add(Request(**(good | {field: wrong})))
        one_line(error.value)
    assert engine.is_idle


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple, lambda ids: [np.uint8(i) for i in ids]])
def test_ids_and_seeds_of_every_kind_of_whole_number_are_the_same(kind: Callable[[list[int]], Any]) -> None:
    model, found = small_model(), []
    for prompt, seed in (([1, 2], 5), (kind([1, 2]), np.int32(5))):
        engine = Engine(model)
        engine.add(Request(prompt, SAMPLING, seed))
        found.append([token.id for _ in range(3) for token in engine.step()])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "settings",
    [
        *({"mode": wrong} for wrong in ("x", 5, None)),
        *({"weights": wrong} for wrong in ("x", 5, None)),
        *(
            {name: wrong}
            for name in ("slots", "block_size", "vocab_size")
            for wrong in ({"a": 1}, -1, 0, 1.5, "x", 10**30, np.zeros(0), [])
        ),
    ],
)
def test_engines_of_the_wrong_kind_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))) as error:
        Engine(small_model(), **settings)
    one_line(error.value)


def test_models_of_the_wrong_kind() -> None:
    for wrong in (None, "run", 5):
        with pytest.raises(UserError, match="a model is needed"):
            Engine(wrong, block_size=8)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="block_size"):
        Engine(nn.Linear(2, 2))


@pytest.mark.parametrize("search", [beam_search, contrastive_search])
def test_searches_refuse_what_they_cannot_begin_with(search: Any) -> None:
    good: dict[str, Any] = {"prompt": torch.tensor([1, 2]), "max_new_tokens": 2, "block_size": 8}
    good |= {"beams": 2} if search is beam_search else {}
    count_of = "beams" if search is beam_search else "candidates"
    weight = "length_penalty" if search is beam_search else "penalty"
    model = small_model().eval()
    search(model, **good)
    for change in (
        *({"prompt": wrong} for wrong in (None, [1, 2], torch.tensor([]), torch.tensor([7]), torch.tensor([-1]))),
        *({"prompt": torch.zeros(shape, dtype=torch.int64)} for shape in ((0,), (9,), (1, 2))),
        *({count_of: wrong} for wrong in (0, -1, 1.5, 10**30)),
        *({weight: wrong} for wrong in (math.nan, math.inf, -1e300)),
        *({"max_new_tokens": wrong} for wrong in (-1, 1.5, 10**30)),
        *({"block_size": wrong} for wrong in (0, -1, "x")),
    ):
        with pytest.raises(UserError) as error:
            search(model, **(good | change))
        one_line(error.value)


@pytest.mark.parametrize("prompt", [None, 5, b"the", ("t",), ["t"]])
def test_a_prompt_is_a_text(prompt: Any) -> None:
    with pytest.raises(UserError, match="a prompt is a text"):
        prompt_ids(ByteTokenizer(), prompt, 8)


# Modes


def test_writing_puts_every_module_back_into_its_mode() -> None:
    model = small_model(vocab_size=257, block_size=4)
    model.train()
    frozen = next(module for name, module in model.named_modules() if name == "blocks.0")
    frozen.eval()
    before = [module.training for module in model.modules()]
    assert True in before and False in before
    generate_text(model, ByteTokenizer(), "a", SAMPLING, block_size=4)
    assert [module.training for module in model.modules()] == before
    with pytest.raises(UserError):
        generate_text(model, ByteTokenizer(), "too long", SAMPLING, block_size=4)
    assert [module.training for module in model.modules()] == before
    begun = stream_text(model, ByteTokenizer(), "a", SAMPLING, block_size=4)
    next(begun)
    begun.close()  # left in the middle
    assert [module.training for module in model.modules()] == before
