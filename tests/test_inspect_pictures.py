"""The pictures of `glassgpt inspect`: what they show is what was found, not only that they can be drawn."""

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from glassgpt.inspection.attention import HeadStatistics
from glassgpt.inspection.embeddings import project
from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.pictures import (
    attention_grid,
    attention_map,
    embedding_plot,
    lens_heatmap,
    position_plane,
    position_plot,
    sampling_plot,
    style,
    surprise_text,
)
from glassgpt.inspection.report import _notable
from glassgpt.model import ModelConfig, make_model
from glassgpt.tokenizers import CharTokenizer
from glassgpt.training.drawing import COLOURS

TEXT = "the cat sat"


@pytest.fixture(scope="module")
def findings() -> Findings:
    torch.manual_seed(0)
    tokenizer = CharTokenizer(TEXT)
    shape = {"n_layer": 2, "n_head": 3, "n_embd": 24, "block_size": 16, "vocab_size": tokenizer.vocab_size}
    model = make_model(ModelConfig(**shape, init_std=0.5)).eval()
    return look(model, tokenizer, tokenizer.encode(TEXT), "Inside a test")


def image(figure: Figure) -> torch.Tensor:
    """What the first image holds, not a number where nothing is drawn."""
    return torch.from_numpy(figure.axes[0].images[0].get_array().filled(torch.nan)).double()


def words(figure: Figure) -> dict[tuple[float, float], str]:
    """What is written in the first panel, by its place."""
    return {text.get_position(): text.get_text() for text in figure.axes[0].texts}


def test_a_head_alone_shows_its_weights(findings: Findings) -> None:
    weights = findings.attention[1, 2]
    figure = attention_map(weights, findings.labels, "a head")
    T = len(TEXT)
    nothing = torch.full((T, T), torch.nan).triu(1)
    torch.testing.assert_close(image(figure).square().float(), weights + nothing, equal_nan=True)
    assert words(figure) == {
        (key, query): f"{weights[query, key]:.2f}" for query in range(T) for key in range(query + 1)
    }
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == findings.labels


def test_each_head_has_its_place_in_the_grid(findings: Findings) -> None:
    shown, T = image(attention_grid(findings.attention)), len(TEXT)
    layers, heads = (side // (T + 1) + 1 for side in shown.shape)  # a point between two maps
    assert (layers, heads) == (2, 3)
    for layer in range(2):
        for head in range(3):
            corner = layer * (T + 1), head * (T + 1)
            map_ = shown[corner[0] : corner[0] + T, corner[1] : corner[1] + T]
            torch.testing.assert_close(map_.tril().square().float().nan_to_num(), findings.attention[layer, head])
            assert map_[0, 1:].isnan().all()  # nothing is ahead


def test_a_grid_of_many_tokens_keeps_the_largest_weights() -> None:
    weights = torch.zeros(1, 1, 200, 200)
    weights[0, 0, 150, 31] = 1.0
    shown = image(attention_grid(weights)).nan_to_num()
    assert max(shown.shape) < 100
    assert shown.max() == 1.0
    row, column = divmod(int(shown.argmax()), shown.shape[1])
    assert (row, column) == (150 * 96 // 200, 31 * 96 // 200)


def test_the_lens_has_a_word_a_cell_and_what_is_right_in_bold(findings: Findings) -> None:
    lens = findings.lens
    figure = lens_heatmap(lens, findings.labels, findings.vocabulary)
    torch.testing.assert_close(image(figure).float(), lens.top_probabilities[..., 0])
    written = {text.get_position(): text for text in figure.axes[0].texts}
    R, T = lens.next_rank.shape
    assert len(written) == R * T
    for (position, row), text in written.items():
        assert text.get_text() == findings.vocabulary[lens.top_ids[row, position, 0]]
        assert (text.get_weight() == "bold") == (lens.next_rank[row, position] == 1)
    assert 0 < (lens.next_rank == 1).sum() < R * T


def test_each_token_of_the_text_has_its_own_colour(findings: Findings) -> None:
    surprise = findings.probabilities.surprise.tolist()
    figure = surprise_text(findings.labels, surprise, len(findings.vocabulary))
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [text.get_text() for text in figure.axes[0].texts][: len(boxes)] == findings.labels
    assert to_hex(boxes[0].get_facecolor()) == "#ffffff"  # nothing predicts the first
    brightness = [sum(box.get_facecolor()[:3]) for box in boxes[1:]]
    order = sorted(range(len(surprise)), key=surprise.__getitem__)
    assert [brightness[i] for i in order] == sorted(brightness, reverse=True)


def test_sampling_shows_what_was_before_and_what_is_after(findings: Findings) -> None:
    before = findings.effects[0].probabilities
    count = min(12, len(before))
    likeliest = before.topk(count).indices.tolist()
    figure = sampling_plot(findings.effects, findings.vocabulary)
    for axes, effect in zip(figure.axes, findings.effects, strict=True):
        bars = [patch.get_width() for patch in axes.patches]
        assert bars == pytest.approx(effect.probabilities[likeliest].tolist())
        assert axes.lines[0].get_xdata() == pytest.approx(before[likeliest].tolist())
        assert effect.name in axes.get_title() and f"{effect.kept} of {len(before)}" in axes.get_title()


def test_embeddings_are_named_where_they_lie_those_of_the_text_in_orange(findings: Findings) -> None:
    ids = findings.ids[:3]
    figure = embedding_plot(findings.embedding, findings.vocabulary, ids)
    named = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(named) == set(findings.vocabulary)
    for i, label in enumerate(findings.vocabulary):
        assert named[label].xy == pytest.approx(findings.embedding.coordinates[i, :2].tolist())
        assert to_hex(named[label].get_color()) == (to_hex(COLOURS[1]) if i in ids else "#000000")


def test_positions_lie_where_they_were_found(findings: Findings) -> None:
    assert findings.positions is not None and findings.similarity is not None
    (points,) = (drawn.get_offsets() for drawn in position_plane(findings.positions).axes[0].collections)
    assert points.tolist() == pytest.approx(findings.positions.coordinates[:, :2].numpy())
    torch.testing.assert_close(image(position_plot(findings.similarity)).float(), findings.similarity)


def test_the_heads_with_pictures_of_their_own_are_the_most_telling() -> None:
    heads = [
        HeadStatistics(0, 0, entropy=0.1, distance=1, previous=0.9, first=0.0, induction=0.0),
        HeadStatistics(0, 1, entropy=2.0, distance=1, previous=0.1, first=0.2, induction=0.1),
        HeadStatistics(1, 0, entropy=0.5, distance=1, previous=0.0, first=0.8, induction=0.7),
    ]
    found = _notable(type("Some", (), {"heads": heads})())  # type: ignore[arg-type]
    assert found == [
        (0, 0, "most on the token before"),
        (1, 0, "most on the first token; most like an induction head"),
        (0, 1, "looks most widely"),
    ]


def test_labels_take_fonts_for_other_scripts_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "OTHER_SCRIPTS", ("No such font", "DejaVu Serif"))
    style.fonts.cache_clear()
    try:
        assert style.fonts() == [style.MONO, "DejaVu Serif"]  # matplotlib brings both
    finally:
        style.fonts.cache_clear()


def test_no_name_lies_on_another_or_on_a_point_of_the_text() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = [f"␣token{i}" for i in range(200)]
    own = list(range(12))
    figure = embedding_plot(project(torch.randn(200, 2, generator=generator) ** 3), labels, own)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent().padded(-1.5) for text in axes.texts]
    assert 12 < len(boxes) < 200  # where it is crowded, some have no room
    crossed = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not crossed
    points = axes.transData.transform(axes.collections[1].get_offsets())  # the text's
    assert not [(box, point) for box in boxes for point in points if box.contains(*point)]
