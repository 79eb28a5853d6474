"""`glassgpt inspect`: what it writes, that it is whole, what it says of bad input, and that pictures can be drawn."""

import csv
import json
import re
import warnings
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch

from glassgpt.errors import UserError
from glassgpt.inspection import report, tables
from glassgpt.inspection.attention import attention_maps
from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.lens import logit_lens
from glassgpt.inspection.page import pack, write_page
from glassgpt.inspection.pictures import lens_heatmap
from glassgpt.inspection.pictures.style import width_of
from glassgpt.inspection.pictures.text import _lines as lines_of_text
from glassgpt.inspection.probabilities import token_probabilities
from glassgpt.locks import holding
from glassgpt.model import ModelConfig, make_model
from glassgpt.runs import load
from glassgpt.tokenizers import ByteTokenizer, CharTokenizer
from glassgpt.training.drawing import save_figure
from tests.conftest import TEXT, call

PROMPT = "the cat sat"


def findings_of(text: str, **changes: object) -> Findings:
    tokenizer = CharTokenizer(text)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": len(text), "vocab_size": tokenizer.vocab_size}
    model = make_model(ModelConfig.parse({**shape, **changes}, "test")).eval()
    return look(model, tokenizer, tokenizer.encode(text), "Inside a test")


def data_in(page: Path) -> dict:
    found = re.search('<script type="application/json" id="data">(.*)</script>', page.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def inspected(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inspected") / "out"
    assert call("inspect", trained_run, "--prompt", PROMPT, "--out", out, "--device", "cpu") == 0
    return out


def test_it_writes_page_pictures_and_data(inspected: Path) -> None:
    assert {path.name for path in inspected.iterdir()} == {"page.html", "pictures", "data"}
    drawn = {path.stem for path in (inspected / "pictures").glob("*.svg")}
    assert {"text", "attention", "lens", "embedding", "sampling"} <= drawn  # (rotary: positions, too)
    assert drawn == {path.stem for path in (inspected / "pictures").glob("*.png")}
    assert not list(inspected.rglob("*.tmp"))


def test_the_figures_are_the_models(inspected: Path, trained_run: Path) -> None:
    run = load(trained_run, "cpu")
    ids = run.tokenizer.encode(PROMPT)
    with torch.no_grad():
        shares = run.model(torch.tensor([ids]))[0].softmax(-1)
    rows = table(inspected / "data" / "tokens.csv")
    assert [int(row["id"]) for row in rows] == ids
    assert rows[0]["probability"] == ""
    for position, row in enumerate(rows[1:], 1):
        share = shares[position - 1, ids[position]]
        assert float(row["probability"]) == pytest.approx(share.item(), rel=1e-4)
        assert int(row["rank"]) == 1 + (shares[position - 1] > share).sum()
        assert float(row["surprise_bits"]) == pytest.approx(-share.log2().item(), abs=1e-4)
    own = [row for row in table(inspected / "data" / "lens.csv") if row["layer"] == "block 1"]
    assert [float(row["p_1"]) for row in own] == pytest.approx(shares.amax(-1).tolist(), rel=1e-4)
    assert own[-1]["next_rank"] == own[-1]["next_probability"] == ""  # nobody knows
    after = {
        int(r["id"]): float(r["probability"])
        for r in table(inspected / "data" / "sampling.csv")
        if r["setting"] == "as it is"
    }
    assert after == pytest.approx({i: shares[-1, i].item() for i in after}, rel=1e-4)
    weights = attention_maps(run.model, ids)
    line = next(
        r for r in table(inspected / "data" / "attention.csv") if r["layer"] == r["head"] == "1" and r["query"] == "5"
    )
    assert [float(line[f"key_{key}"]) for key in range(6)] == pytest.approx(weights[1, 1, 5, :6].tolist(), abs=1e-5)
    assert not line["key_6"]


def test_neighbours_and_what_directions_explain(inspected: Path, trained_run: Path) -> None:
    run = load(trained_run, "cpu")
    vectors = run.model.get_parameter("token_embedding.weight").detach().double().numpy()
    of_unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = table(inspected / "data" / "neighbours.csv")
    assert {int(row["id"]) for row in rows} == set(run.tokenizer.encode(PROMPT))
    for row in rows:
        own, other = int(row["id"]), int(row["neighbour_id"])
        assert own != other
        assert float(row["cosine"]) == pytest.approx(of_unit[own] @ of_unit[other], abs=1e-5)
    own = int(rows[0]["id"])
    found = [int(row["neighbour_id"]) for row in rows if int(row["id"]) == own]
    assert found == np.argsort(-of_unit @ of_unit[own])[1 : len(found) + 1].tolist()
    variances = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    shares = [row for row in table(inspected / "data" / "explained.csv") if row["embedding"] == "token"]
    assert [float(row["share_of_variance"]) for row in shares] == pytest.approx(
        (variances / variances.sum())[: len(shares)].tolist(), abs=1e-5
    )


def test_positions_are_those_of_the_model(inspected: Path, trained_run: Path) -> None:
    config = load(trained_run, "cpu").model.config
    assert config.position == "rotary"
    rows = table(inspected / "data" / "positions.csv")
    assert [int(row["position"]) for row in rows] == list(range(config.block_size))
    alike = table(inspected / "data" / "position-similarity.csv")
    assert len(alike) == len(alike[0]) == len(PROMPT)
    frequencies = 10_000.0 ** (-np.arange(0, config.head_width, 2) / config.head_width)
    assert float(alike[2]["position_7"]) == pytest.approx(np.cos(5 * frequencies).mean(), abs=1e-3)


@pytest.mark.parametrize("position", ["learned", "rotary", "sinusoidal", "none"])
def test_one_reading_finds_what_each_function_finds(position: str) -> None:
    tokenizer = CharTokenizer(TEXT)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 40, "vocab_size": tokenizer.vocab_size}
    model = make_model(ModelConfig.parse({**shape, "position": position, "init_std": 0.3}, "test")).eval()
    ids = tokenizer.encode(TEXT[:30])
    found = look(model, tokenizer, ids, "")
    assert torch.equal(found.attention, attention_maps(model, ids))
    for separate, together in (
        (logit_lens(model, ids), found.lens),
        (token_probabilities(model, ids), found.probabilities),
    ):
        for name, value in vars(separate).items():
            assert np.array_equal(value, getattr(together, name)), name
    assert (found.positions is None) == (found.similarity is None) == (position == "none")


def test_json_and_csv_say_the_same(inspected: Path) -> None:
    for path in (inspected / "data").glob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
        assert table(path.with_suffix(".csv")) == as_text


def test_the_page_is_one_file_that_asks_for_nothing(inspected: Path) -> None:
    page = (inspected / "page.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy\" content=\"default-src 'none';" in page
    assert not re.search(r"https?:|//[a-z]+\.|@import|\bfetch\(|XMLHttpRequest|url\(", page)
    assert "/*{" not in page


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script><!--", "/*{js}*/ /*{data}*/ {css}", "\u2028 \ud800 é\t😀\n"]
)
def test_no_text_breaks_the_page(tmp_path: Path, text: str) -> None:
    findings = findings_of(text)
    write_page(tmp_path / "page.html", findings)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    data = data_in(tmp_path / "page.html")
    assert data["tokens"] == findings.labels and len(data["tokens"]) == len(text)


def test_packed_weights_are_near_the_weights() -> None:
    weights = torch.rand(3, 9, 9).tril().softmax(-1).tril()
    rows, columns = np.tril_indices(9)
    packed = np.frombuffer(b64decode(pack(weights)), dtype=np.uint8).reshape(3, -1)
    assert np.allclose((packed / 255) ** 2, weights.numpy()[:, rows, columns], atol=1 / 255)


@pytest.mark.parametrize("room", [0, 1, 3, 5])
def test_a_page_that_is_too_large_leaves_layers_out_and_says_so(tmp_path: Path, room: int) -> None:
    findings = findings_of("a text of some forty signs, for a small page", n_layer=5)
    whole = write_page(tmp_path / "page.html", findings)
    assert not whole.left_out and whole.bytes == (tmp_path / "page.html").stat().st_size
    per_layer = len(pack(findings.attention[0])) + 3
    limit = whole.bytes - 5 * per_layer + room * per_layer + 1100
    less = write_page(tmp_path / "page.html", findings, limit=limit)
    kept = [packed is not None for packed in data_in(tmp_path / "page.html")["attention"]]
    assert sum(kept) == room and less.bytes <= limit
    assert room == 0 or kept[-1]
    assert data_in(tmp_path / "page.html")["positions"]["similarity"] is not None  # without it, no layer would fit
    assert data_in(tmp_path / "page.html")["left_out"] == less.left_out
    missing = "" if room == 5 else "all layers" if room == 0 else ", ".join(str(i) for i in range(5) if not kept[i])
    assert missing in "".join(less.left_out)


def test_a_page_without_room_for_attention_leaves_out_how_alike_positions_are(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    findings = findings_of("a text of some forty signs, for a small page", n_layer=5, n_head=1)
    whole = write_page(path, findings).bytes
    per_layer = len(pack(findings.attention[0])) + 3
    assert len(data_in(path)["positions"]["similarity"]) == per_layer - 3  # as many pairs, a byte each
    for layers, similarity, room in ((0, False, -1), (1, False, 0), (1, True, 1), (2, True, 2)):
        limit = whole + (room - 5) * per_layer + 1100
        less = write_page(path, findings, limit=limit)
        assert less.bytes <= limit
        data = data_in(path)
        assert sum(packed is not None for packed in data["attention"]) == layers
        assert (data["positions"]["similarity"] is not None) == similarity
        assert any("how alike" in what for what in less.left_out) != similarity
        assert data["left_out"] == less.left_out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "the cat sat on the mat. the dog"], "--crop-prompt"),
        (["--prompt", "THE €"], "'T'"),
        (["--prompt", "the", "--out", "{file}"], "a file is where a folder is to be"),
        (["--prompt", "the", "--out", "{file}/in"], "text.txt"),
        (["--prompt", "the", "--out", "{used}"], "holds something else"),
        (["--prompt", "the", "--device", "gpu"], "gpu"),
        ([], "--prompt"),
    ],
)
def test_bad_input_is_one_line(
    trained_run: Path, tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    used = tmp_path / "used"
    (used / "data").mkdir(parents=True)
    (used / "data" / "mine.txt").write_text("precious", encoding="utf-8")
    words = [word.format(file=text_file, used=used) for word in words]
    out = [] if "--out" in words else ["--out", tmp_path / "out"]
    assert call("inspect", trained_run, *words, *out) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert (used / "data" / "mine.txt").exists() and not (tmp_path / "out").exists()


def test_a_link_that_leads_nowhere_is_named(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        (tmp_path / "link").symlink_to(tmp_path / "gone", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links for this user")
    assert call("inspect", trained_run, "--prompt", "the", "--out", tmp_path / "link") == 2
    assert "gone, which is not there: remove the link" in capsys.readouterr().err


@pytest.mark.parametrize("foreign", ["pictures as a file", "a folder in data", "data as a link"])
def test_what_only_looks_like_an_inspection_is_not_touched(tmp_path: Path, foreign: str) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    report.write_report(findings_of("four"), out, pictures=False)
    mine.mkdir()
    (mine / "tokens.csv").write_text("precious", encoding="utf-8")
    if foreign == "pictures as a file":
        (out / "pictures").write_text("precious", encoding="utf-8")
    elif foreign == "a folder in data":
        (out / "data" / "text.csv").mkdir()
    else:
        rmtree(out / "data")
        try:
            (out / "data").symlink_to(mine, target_is_directory=True)
        except OSError:
            pytest.skip("this system makes no links for this user")
    before = {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")}
    with pytest.raises(UserError, match="holds something else"):
        report.check_out(out)
    assert {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")} == before
    assert (mine / "tokens.csv").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_goes_wrong_while_it_is_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    out = tmp_path / "out"
    report.write_report(findings_of("four"), out)
    before = {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")}
    assert out / "pictures" / "text.png" in before

    def fail(_figure: object, path: Path) -> None:
        if isinstance(trouble, OSError):
            trouble.filename = str(path)
        raise trouble

    monkeypatch.setattr("glassgpt.training.drawing.save_figure", fail)
    with pytest.raises(type(trouble)) as raised:
        report.write_report(findings_of("another one"), out)
    assert {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")} == before
    if isinstance(raised.value, OSError):
        assert raised.value.filename == str(out / "pictures" / "text.png")
    with pytest.raises(type(trouble)):
        report.write_report(findings_of("new"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def fail_at_rename(patch: pytest.MonkeyPatch, number: int, trouble: BaseException) -> None:
    """Let one of the renames to come fail, counted from 0."""
    calls: list[Path] = []

    def failing(original: Callable[..., Path]) -> Callable[..., Path]:
        def rename(path: Path, target: Path) -> Path:
            calls.append(path)
            if len(calls) == number + 1:
                raise trouble
            return original(path, target)

        return rename

    patch.setattr(Path, "rename", failing(Path.rename))
    patch.setattr(Path, "replace", failing(Path.replace))


def test_a_rename_that_fails_leaves_the_earlier_inspection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is, and whoever ends it; a kill leaves a page, and what it took away comes back."""
    out = tmp_path / "out"
    for trouble in (OSError(16, "Device or resource busy"), KeyboardInterrupt()):
        report.write_report(findings_of("four"), out, pictures=False)
        before = {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")}
        for number in range(20):
            with monkeypatch.context() as patch:
                fail_at_rename(patch, number, trouble)
                try:
                    report.write_report(findings_of("another one"), out, pictures=False)
                except type(trouble):
                    assert {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")} == before
                else:
                    break
        assert number >= 3
        rmtree(out)


def test_a_kill_between_renames_leaves_a_page_and_the_rest_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report.write_report(findings_of("four"), out)
    before = {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")}
    aside = out / ".inspection.999999999.tmp"
    (aside / "before").mkdir(parents=True)
    (out / "data").rename(aside / "before" / "data")
    with pytest.raises(UserError, match="not a number"):
        _refused(out)
    assert {path: path.is_dir() or path.read_bytes() for path in out.rglob("*")} == before


def _refused(out: Path) -> None:
    """An inspection that takes over what was left, and is then refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_write", lambda *_: (_ for _ in ()).throw(UserError("not a number")))
        report.write_report(findings_of("four"), out)


def test_two_at_once_are_told_and_leftovers_of_killed_ones_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".inspection.1.tmp" / "data").mkdir(parents=True)
    with holding(out / report.LOCK):
        report.check_out(out)
        with pytest.raises(UserError, match="another inspection is being written there"):
            report.write_report(findings_of("four"), out, pictures=False)
    report.write_report(findings_of("four"), out, pictures=False)
    assert {path.name for path in out.iterdir()} == {"page.html", "data"}


def test_weights_that_are_no_numbers_are_named_even_if_the_text_has_none_of_them(
    trained_run: Path, tmp_path: Path
) -> None:
    run = load(trained_run, "cpu")
    unused = run.tokenizer.encode("g")[0]
    with torch.no_grad():
        run.model.get_parameter("token_embedding.weight")[unused] = torch.nan
    with pytest.raises(UserError, match="not a number"):
        report.inspect_run(run, "the", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_and_what_is_no_gpt(
    tmp_path: Path, trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", tmp_path / "none", "--prompt", "a", "--out", tmp_path / "out") == 2
    assert "no such run folder" in capsys.readouterr().err
    run = load(trained_run, "cpu")
    run.__dict__["model"] = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="only a GPT"):
        report.inspect_run(run, "the", tmp_path / "out")


def test_a_long_prompt_is_cropped_if_asked(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert call("inspect", trained_run, "--prompt", TEXT, "--crop-prompt", "--out", out, "--no-pictures") == 0
    assert "16 tokens" in capsys.readouterr().out
    assert "".join(row["token"] for row in table(out / "data" / "tokens.csv")).endswith("on␣the␣log.⏎")
    assert not (out / "pictures").exists()
    (out / "pictures").mkdir()  # as if they had been drawn
    assert call("inspect", trained_run, "--prompt", "t", "--out", out, "--no-pictures") == 0  # again, over it
    assert len(data_in(out / "page.html")["tokens"]) == 1 and not (out / "pictures").exists()


def test_too_many_weights_are_not_written_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_WEIGHTS", 10)
    summary = report.write_report(findings_of("four"), tmp_path / "out", pictures=False)
    assert not (tmp_path / "out" / "data" / "attention.csv").exists()
    assert "attention.csv: 40 weights" in summary.left_out[0]


@pytest.mark.parametrize("length", [1, 4, 60, 205])
def test_pictures_of_any_length(tmp_path: Path, length: int) -> None:
    """Drawn and saved with no warning; what is not Latin, or would be a formula, is no obstacle."""
    text = ("$x^2$ _a\n漢\t\u0301 the end. " * 20)[:length]
    findings = findings_of(text, position="rotary" if length == 4 else "learned")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, figure in report._figures(findings):
            save_figure(figure, tmp_path / f"{name}.png")
            assert max(figure.get_size_inches()) < 40


def test_where_there_is_no_room_for_words_dots_mark_what_comes_next() -> None:
    findings = findings_of("aab" * 50)
    figure = lens_heatmap(findings.lens, findings.labels, findings.vocabulary)
    assert len(figure.axes) > 2  # panels, and the scale
    dots = sum(len(line.get_xdata()) for axes in figure.axes for line in axes.lines)
    assert dots == (findings.lens.next_rank == 1).sum() > 0


def test_no_tokens_overlap_in_the_coloured_text() -> None:
    labels = ["␣word", "⏎", "漢", "\\xe2\\x82", "a" * 200] * 30
    lines = lines_of_text(labels, 84)
    assert [token for line in lines for _, _, token in line] == list(range(150))
    for line in lines:
        ends = [place + width_of(label) for place, label, _ in line]
        assert [place for place, _, _ in line] == [0, *ends[:-1]] and ends[-1] <= 84


def test_partial_characters_are_shown(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    model = make_model(ModelConfig(vocab_size=260, block_size=8, n_layer=1, n_head=1, n_embd=8)).eval()
    findings = look(model, tokenizer, tokenizer.encode("é€"), "bytes")
    assert findings.labels == ["\\xc3", "\\xa9", "\\xe2", "\\x82", "\\xac"]
    assert findings.vocabulary[-1] == "#259"  # room that the tokenizer has no use for
    write_page(tmp_path / "page.html", findings)


def test_what_others_wrote_is_never_replaced(trained_run: Path, tmp_path: Path) -> None:
    """Also where it looks like an inspection: a page with folders of these names."""
    site = tmp_path / "site"
    (site / "data").mkdir(parents=True)
    (site / "page.html").write_text("<p>mine</p>")
    assert call("inspect", trained_run, "--prompt", "the cat", "--out", site, "--no-pictures") == 2
    inside = tmp_path / "inside"
    words = ("inspect", trained_run, "--prompt", "the cat", "--out", inside, "--no-pictures")
    assert call(*words) == 0 and call(*words) == 0  # its own is replaced
    (inside / "data" / "thesis.csv").write_text("mine")
    assert call(*words) == 2
    assert (inside / "data" / "thesis.csv").read_text() == "mine"
    assert (site / "page.html").read_text() == "<p>mine</p>"


def test_tables_of_lens_and_sampling_are_the_models(inspected: Path, trained_run: Path) -> None:
    run = load(trained_run, "cpu")
    lens = logit_lens(run.model, run.tokenizer.encode(PROMPT))
    rows = table(inspected / "data" / "lens.csv")
    assert [float(row["entropy_nats"]) for row in rows] == pytest.approx(lens.entropy.flatten().tolist(), rel=1e-4)
    assert [row["layer"] for row in rows[:: len(PROMPT)]] == lens.layers
    with torch.no_grad():
        after = run.model(torch.tensor([run.tokenizer.encode(PROMPT)]))[0, -1].double().softmax(-1)
    kept = {row["setting"]: int(row["kept"]) for row in table(inspected / "data" / "sampling.csv")}
    assert kept == {
        "as it is": len(after),
        "temperature 0.5": len(after),
        "temperature 1.5": len(after),
        "top-k 10": 10,
        "top-p 0.9": 1 + int((after.sort(descending=True).values.cumsum(-1) < 0.9).sum()),
        "min-p 0.1": int((after >= 0.1 * after.max()).sum()),
    }


def test_what_a_killed_inspection_left_is_no_obstacle(trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("inspect", trained_run, "--prompt", "the cat", "--out", out, "--no-pictures")
    assert call(*words) == 0
    (out / ".page.html.123.tmp").write_text("half a page")
    (out / ".data.123.tmp").mkdir()
    (out / "data" / ".tokens.csv.123.tmp").write_text("half a table")
    assert call(*words) == 0


@pytest.mark.parametrize("token", ["</script><script>alert(1)</script>", "<!--<script>", "/*{js}*/", "\ud800"])
def test_no_token_or_title_breaks_the_page(tmp_path: Path, token: str) -> None:
    """Whole: a tokenizer of single characters never has one that could end the element that the data are in."""
    findings = findings_of("abc")
    odd = replace(findings, title=token, labels=[token] * 3, vocabulary=[token] * 3)
    write_page(tmp_path / "page.html", odd)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2  # the data's end, and the script's
    assert page.count("<!--") == 0
    data = data_in(tmp_path / "page.html")
    assert (data["title"], data["tokens"], data["vocabulary"]) == (token, [token] * 3, [token] * 3)
