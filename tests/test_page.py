"""The page of `glassgpt inspect` in a real browser: what it shows is what was found, and no request leaves it.

It takes a Chromium or Chrome that is installed (Debian: `apt-get install chromium`; `GLASSGPT_CHROMIUM` names another
one) and Playwright's Python package; nothing is downloaded. Without them, these tests skip; where
`GLASSGPT_NEEDS_BROWSER` is 1, they fail.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from glassgpt.inspection.findings import Findings, look
from glassgpt.inspection.page import write_page
from glassgpt.model import ModelConfig, make_model
from glassgpt.tokenizers import ByteTokenizer, CharTokenizer

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
TEXT = "the cat sat on the mat.\n<b>the"
LONG = (TEXT + " and so on\n") * 6  # over 200 tokens


def find_browser() -> str | None:
    found = (shutil.which(name) for name in (os.environ.get("GLASSGPT_CHROMIUM", ""), *NAMES) if name)
    return next((path for path in (*found, *(place for place in PLACES if Path(place).is_file())) if path), None)


def missing(what: str) -> NoReturn:
    """Skips, or fails where these tests must not go unrun without anybody noticing."""
    if os.environ.get("GLASSGPT_NEEDS_BROWSER") == "1":
        pytest.fail(f"{what} (GLASSGPT_NEEDS_BROWSER is 1)")
    pytest.skip(what)


def launch() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("needs Playwright: pip install playwright")
    executable = find_browser()
    if executable is None:
        missing("needs a browser: apt-get install chromium, or name one in GLASSGPT_CHROMIUM")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield launched
        launched.close()


def findings_of(text: str, **options: Any) -> Findings:
    torch.manual_seed(1)
    tokenizer = CharTokenizer(TEXT + LONG)
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 256, "vocab_size": tokenizer.vocab_size}
    model = make_model(ModelConfig(**shape | options, init_std=0.4)).eval()  # attention that is not all alike
    return look(model, tokenizer, tokenizer.encode(text), "Inside a test")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from launch()


@pytest.fixture(scope="module")
def findings() -> Findings:
    return findings_of(TEXT)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page of findings; at the end, nothing must have been asked of anyone, and nothing gone wrong."""
    asked: list[str] = []
    wrong: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900}, color_scheme="light")

    def opened(findings: Findings, **options: Any) -> Any:
        write_page(tmp_path / "page.html", findings, **options)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector("body[data-drawn=all]", state="attached")
        return page

    yield opened
    context.close()
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert not wrong


def token(page: Any, position: int) -> Any:
    return page.locator("#tokens button").nth(position)


def background(locator: Any) -> str:
    return str(locator.evaluate("element => getComputedStyle(element).backgroundColor"))


def lightness(locator: Any) -> float:
    red, green, blue = map(int, re.findall(r"\d+", background(locator))[:3])
    return 0.3 * red + 0.59 * green + 0.11 * blue


def percent_in(text: str) -> float:
    found = re.search(r"(\d+(?:\.\d+)?) %", text)
    assert found, text
    return float(found[1]) / 100


def test_the_text_is_there_and_coloured_by_surprise(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    assert page.title() == page.locator("h1").inner_text() == "Inside a test"
    assert page.locator("#tokens button").all_text_contents() == findings.labels
    surprise = findings.probabilities.surprise
    least, most = int(surprise.argmin()) + 1, int(surprise.argmax()) + 1
    assert lightness(token(page, least)) > lightness(token(page, most)) + 50
    tops = page.locator("#tokens button").evaluate_all("buttons => buttons.map(button => button.offsetTop)")
    ends = [position for position, label in enumerate(findings.labels) if label.endswith("⏎")]
    assert ends == [TEXT.index("\n")]  # there a row ends, and nowhere else
    assert [i for i in range(len(tops) - 1) if tops[i] != tops[i + 1]] == ends


def test_shares_are_said_in_percent(opened: Any, findings: Findings) -> None:
    said = {
        **{0: "0 %", 1e-6: "< 0.1 %", 0.0009: "< 0.1 %", 0.001: "0.1 %", 0.0449: "4.5 %", 0.0994: "9.9 %"},
        **{
            0.1: "10 %",
            0.424: "42 %",
            0.994: "99 %",
            0.996: "99.6 %",
            0.9994: "99.9 %",
            0.9999: "> 99.9 %",
            1: "100 %",
        },
    }
    assert opened(findings).evaluate("shares => shares.map(percent)", list(said)) == list(said.values())


def test_clicking_a_token_shows_its_figures(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    token(page, 7).click()
    assert token(page, 7).get_attribute("aria-pressed") == "true"
    said = page.locator("#token").inner_text()
    found = findings.probabilities
    assert f"rank {found.rank[6]}," in said
    assert f"surprise {found.surprise[6]:.2f} bits (expected: {found.entropy[6]:.2f})" in said
    expected = page.locator("#token ul").first.locator("li").all_inner_texts()
    assert [line.split()[0] for line in expected] == [findings.vocabulary[i] for i in found.top_ids[6].tolist()]
    assert [percent_in(line) for line in expected] == pytest.approx(found.top_probabilities[6].tolist(), abs=0.006)
    assert page.locator("#status").inner_text().startswith(f"Token 7: {findings.labels[7]}, surprise")


def test_hovering_shades_what_a_head_looks_at(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    page.locator('#grid [data-layer="1"][data-head="2"]').click()
    before = background(token(page, 3))
    token(page, 12).hover()
    weights = findings.attention[1, 2, 12, :13]
    most, least = int(weights.argmax()), int(weights.argmin())
    assert lightness(token(page, most)) < lightness(token(page, least)) - 50  # on white paper, much is dark
    assert "later" in (token(page, 13).get_attribute("class") or "")
    quarter = int((weights / weights.max() - 0.25).abs().argmin())
    for seen in (most, least, quarter):  # by the square root, and the largest weight is the end of the scale
        red, green, blue = page.evaluate("share => colour(share)", float((weights[seen] / weights.max()).sqrt()))
        shown = map(int, re.findall(r"\d+", background(token(page, seen))))
        assert list(shown) == pytest.approx([red, green, blue], abs=8)  # weights have eight bits
    lines = page.locator("#token ul").last.locator("li").all_inner_texts()
    assert lines[0].startswith(f"{findings.labels[most]} ({most})")
    assert [percent_in(line) for line in lines] == pytest.approx(
        weights.sort(descending=True).values[:5].tolist(), abs=0.01
    )
    page.locator("h1").hover()
    assert background(token(page, 3)) == before
    page.get_by_label("what looks at the token").check()
    token(page, 5).click()
    page.locator("h1").hover()
    column = findings.attention[1, 2, :, 5]
    assert lightness(token(page, int(column.argmax()))) < 100
    assert "later" in (token(page, 4).get_attribute("class") or "")  # those before it cannot look at it


def test_arrow_keys_go_through_tokens_layers_and_heads(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    token(page, 4).click()
    for key, position in (("ArrowRight", 5), ("ArrowLeft", 4), ("Home", 0), ("ArrowLeft", 0), ("End", len(TEXT) - 1)):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.position") == str(position)
        assert token(page, position).get_attribute("aria-pressed") == "true"
    assert page.locator("#tokens button[tabindex='0']").count() == 1  # Tab stops once
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.locator('#grid [data-layer="0"][data-head="0"]').click()
    for key, layer, head in (("ArrowDown", 1, 0), ("ArrowRight", 1, 1), ("ArrowUp", 0, 1), ("ArrowUp", 0, 1)):
        page.keyboard.press(key)
        assert page.locator("#map-title").inner_text() == f"Layer {layer}, head {head}"
        assert page.evaluate("[document.activeElement.dataset.layer, document.activeElement.dataset.head]") == [
            str(layer),
            str(head),
        ]
    page.locator("#map").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    query, key = len(TEXT) - 2, 2
    said = page.locator("#cell").inner_text()
    assert said.startswith(f"{findings.labels[query]} ({query}) looks at {findings.labels[key]} ({key}) with")
    assert page.locator("#status").inner_text() == said
    assert percent_in(said) == pytest.approx(float(findings.attention[0, 1, query, key]), abs=0.01)


def test_keys_with_a_modifier_are_the_browsers(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    for place in ("#tokens", "#grid", "#map", "#lens-table", "#plane", "#places", "#similarity"):
        left, taken = page.evaluate(
            """place => {
                const press = (options) => document.querySelector(place).dispatchEvent(
                    new KeyboardEvent("keydown", { key: "Home", cancelable: true, ...options }));
                const before = JSON.stringify(state), modifiers = ["altKey", "ctrlKey", "metaKey"];
                const left = modifiers.every((name) => press({ [name]: true })) && JSON.stringify(state) === before;
                return [left, !press({})];
            }""",
            place,
        )
        assert left and taken, place


def test_the_map_answers_where_the_mouse_is(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    place = page.evaluate("place")
    spot = {name: place["margin"] + place["cell"] * (number + 0.5) for name, number in (("x", 3), ("y", 9))}
    page.locator("#map").hover(position=spot)
    assert f"({9}) looks at {findings.labels[3]} (3)" in page.locator("#cell").inner_text()
    page.locator("#map").hover(position={"x": spot["y"], "y": spot["x"]})
    assert "cannot look ahead" in page.locator("#cell").inner_text()
    page.locator("#map").click(position=spot)
    assert token(page, 9).get_attribute("aria-pressed") == "true"
    page.get_by_text("This row as a table").click()
    shown = page.locator("#row tbody td:last-child").all_inner_texts()
    assert list(map(float, shown)) == pytest.approx(findings.attention[0, 0, 9, :10].tolist(), abs=0.005)


def small_pictures(page: Any, heads: int, n: int) -> torch.Tensor:
    """The red in the middle of each of n × n squares of each head's small picture: where there is none, -1."""
    reds = page.evaluate(
        """([heads, n]) => [...Array(heads).keys()].map((i) => {
            const button = document.querySelectorAll("#grid button")[i];
            const canvas = button.parentElement.querySelector("canvas"), pen = canvas.getContext("2d");
            const { x, y, width } = button.getBoundingClientRect(), over = canvas.getBoundingClientRect();
            const side = width - 2, size = canvas.width / over.width; // within the frame
            const at = (place, cell) => Math.floor((place + 1 + (cell + 0.5) * side / n) * size);
            const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
            return [...Array(n * n).keys()].map((cell) => {
                const across = at(x - over.x, cell % n), down = at(y - over.y, Math.floor(cell / n));
                const point = 4 * (down * pixels.width + across);
                return pixels.data[point + 3] ? pixels.data[point] : -1;
            });
        })""",
        [heads, n],
    )
    return torch.tensor(reds).view(heads, n, n)


def test_every_head_has_its_picture(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    T = len(TEXT)
    for weights, shades in zip(findings.attention.reshape(12, T, T), small_pictures(page, 12, T), strict=True):
        assert torch.equal(shades >= 0, torch.ones(T, T).tril().bool())  # what lies ahead is left clear
        darkest = int(shades.masked_fill(shades < 0, 256).argmin())  # on white paper
        assert weights.flatten()[darkest] > weights.max() - 0.02


def test_the_lens_table_is_the_lens(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    lens, T = findings.lens, len(TEXT)
    rows = page.locator("#lens-table tbody tr")
    assert rows.locator("th").all_inner_texts() == lens.layers
    for row in range(4):
        words = rows.nth(row).locator("td").all_text_contents()
        assert words == [findings.vocabulary[i] for i in lens.top_ids[row, :, 0].tolist()]
    right = page.locator("#lens-table td.right")
    assert right.count() == int((lens.next_rank == 1).sum())
    cell = page.locator('#lens-table [data-depth="1"][data-position="6"]')
    cell.hover()
    said = page.locator("#prediction").inner_text()
    assert f"After {findings.labels[6]} (6)" in said and "block 0" in said
    assert f"entropy {lens.entropy[1, 6]:.2f} nats" in said and f"rank {lens.next_rank[1, 6]}" in said
    assert percent_in(said) == pytest.approx(float(lens.top_probabilities[1, 6, 0]), abs=0.006)
    cell.click()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    chosen = page.locator("#lens-table td[aria-selected=true]")
    assert [chosen.get_attribute(f"data-{name}") for name in ("depth", "position")] == ["0", "7"]
    assert token(page, 7).get_attribute("aria-pressed") == "true"
    before = background(chosen)
    page.locator("#lens-colour").select_option("entropy")
    assert background(page.locator("#lens-table td[aria-selected=true]")) != before
    page.locator(f'#lens-table [data-depth="3"][data-position="{T - 1}"]').click()
    assert "not known" in page.locator("#prediction").inner_text()


def test_head_statistics_are_sorted_by_a_click(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    page.get_by_role("button", name="entropy (nats)").click()
    shown = [float(x) for x in page.locator("#statistics tbody td:nth-child(3)").all_inner_texts()]
    assert shown == pytest.approx(sorted((head.entropy for head in findings.heads), reverse=True), abs=0.006)
    assert page.locator("#statistics th[aria-sort=descending]").inner_text().startswith("entropy")
    page.get_by_role("button", name="entropy (nats)").click()
    assert page.evaluate("document.activeElement.dataset.key") == "entropy"  # not lost by the drawing anew
    for position in (6, 20):
        token(page, position).click()
        assert (
            page.locator("#statistics thead th").last.inner_text()
            == f"{findings.labels[position]} ({position}) looks most at"
        )
        last = page.locator("#statistics tbody td:last-child").all_inner_texts()
        by_entropy = sorted(findings.heads, key=lambda head: head.entropy)
        for told, head in zip(last, by_entropy, strict=True):
            weights = findings.attention[head.layer, head.head, position]
            found = re.search(r"\((\d+)\)", told)
            assert found and weights[int(found[1])] > weights.max() - 0.01
            assert percent_in(told) == pytest.approx(float(weights.max()), abs=0.01)
    page.locator("#statistics tbody button").first.click()
    assert page.locator("#statistics tr.chosen").count() == 1
    least = min(findings.heads, key=lambda head: head.entropy)
    assert page.locator("#map-title").inner_text() == f"Layer {least.layer}, head {least.head}"


def numbers_in(text: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"−?\d+(?:\.\d+)?", text)]


def drawn_points(page: Any, plane: str) -> torch.Tensor:
    """Where a plane's points are on their canvas, in pixels."""
    places = page.evaluate(f"Array.from({{ length: {plane}.count }}, (_, i) => [{plane}.x[i], {plane}.y[i]])")
    return torch.tensor(places)


def assert_drawn(page: Any, plane: str, found: torch.Tensor) -> None:
    """On the canvas as they were found, but for one scale and one shift; y goes downwards there."""
    drawn = drawn_points(page, plane)
    scale = (drawn[:, 0].max() - drawn[:, 0].min()) / (found[:, 0].max() - found[:, 0].min())
    assert scale > 0 and len(drawn) == len(found)
    expected = found[:, :2] * torch.tensor([scale, -scale])
    assert torch.allclose(drawn - drawn[0], expected - expected[0], atol=0.1)


def spot(page: Any, canvas: str, plane: str, number: int) -> dict[str, float]:
    """Where the mouse finds a point of a plane: the canvas has a frame."""
    frame = page.locator(canvas).evaluate("canvas => canvas.clientLeft")
    x, y = drawn_points(page, plane)[number].tolist()
    return {"x": x + frame, "y": y + frame}


def written(page: Any, draw: str) -> list[str]:
    """The words that a drawing puts on a canvas."""
    words = page.evaluate(
        """draw => {
            const pen = CanvasRenderingContext2D.prototype, real = pen.fillText, words = [];
            pen.fillText = function (word, ...rest) { words.push(word); real.call(this, word, ...rest); };
            try { eval(draw); } finally { pen.fillText = real; }
            return words;
        }""",
        draw,
    )
    return list(words)


def assert_names_are_apart(page: Any, slack: float) -> None:
    """No name on the plane lies on another one: but for so many pixels at each side, their rectangles share none."""
    boxes = page.evaluate(
        """() => {
            const pen = CanvasRenderingContext2D.prototype, real = pen.fillText, boxes = [];
            pen.fillText = function (word, x, y) {
                if (!word.includes("variance")) boxes.push([x, x + this.measureText(word).width, y - 6, y + 6]);
                real.call(this, word, x, y);
            };
            try { drawEmbeddings(); } finally { pen.fillText = real; }
            return boxes;
        }"""
    )
    left, right, top, bottom = torch.tensor(boxes, dtype=torch.float64).T
    across = torch.minimum(right[:, None], right) - torch.maximum(left[:, None], left)
    along = torch.minimum(bottom[:, None], bottom) - torch.maximum(top[:, None], top)
    both = torch.minimum(across, along).fill_diagonal_(-1)
    assert len(boxes) > 5 and both.max() <= 2 * slack + 1e-3


def test_embeddings_lie_where_they_were_found(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    assert_drawn(page, "tokenPlane", findings.embedding.coordinates)
    explained = 100 * findings.embedding.explained
    said = numbers_in(page.locator("#plane-title").inner_text())
    V = len(findings.vocabulary)
    assert said == pytest.approx([V, float(explained[:2].sum()), float(explained.sum()), 8], abs=0.5)
    words = written(page, "drawEmbeddings()")
    axes = [numbers_in(word)[0] for word in words if "of the variance" in word]
    assert axes == pytest.approx(explained[:2].tolist(), abs=0.5)
    assert_names_are_apart(page, 1)
    names = {word for word in words if "variance" not in word}
    assert names <= set(findings.vocabulary) and len(names) > 0.7 * V  # of the others there is a point
    row = page.locator("#embedding-table tbody tr").first
    first = findings.ids[0]
    shown = row.locator("td").all_text_contents()
    assert row.locator("th").text_content() == findings.labels[0]
    assert list(map(int, shown[:2])) == [first, findings.ids.count(first)]
    assert numbers_in(" ".join(shown[2:4])) == pytest.approx(findings.embedding.coordinates[first, :2], abs=0.001)
    assert page.locator("#embedding-table tbody tr").count() == len(set(findings.ids))


def test_a_token_among_the_embeddings_is_found_by_mouse_and_by_keys(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    found = findings.embedding.coordinates[:, :2]
    new = next(i for i in range(len(found)) if i not in findings.ids)
    page.locator("#plane").hover(position=spot(page, "#plane", "tokenPlane", new))
    said = page.locator("#point").inner_text()
    assert said.startswith(f"{findings.vocabulary[new]} (id {new}) at") and "not in the text" in said
    assert numbers_in(said.partition(" at ")[2])[:2] == pytest.approx(found[new].tolist(), abs=0.006)
    page.locator("h1").hover()
    assert f"(id {findings.ids[-1]}) at" in page.locator("#point").inner_text()  # again of what is chosen
    page.locator("#plane").click(position=spot(page, "#plane", "tokenPlane", new))
    page.locator("h1").hover()
    assert f"(id {new}) at" in page.locator("#point").inner_text()
    assert token(page, len(TEXT) - 1).get_attribute("aria-pressed") == "true"  # the text has no such token
    page.locator("#plane").click(position=spot(page, "#plane", "tokenPlane", findings.ids[4]))
    assert token(page, findings.ids.index(findings.ids[4])).get_attribute("aria-pressed") == "true"
    page.locator("h1").hover()
    at = findings.ids[4]
    drawn = drawn_points(page, "tokenPlane")
    for key, way in (("ArrowRight", (1, 0)), ("ArrowDown", (0, 1)), ("ArrowLeft", (-1, 0)), ("ArrowUp", (0, -1))):
        page.keyboard.press(key)
        apart = drawn - drawn[at]
        ahead = apart @ torch.tensor(way, dtype=torch.float32)
        aside = apart.abs().sum(dim=1) - ahead.abs()
        allowed = (ahead > 4) & (ahead >= aside)
        at = int(torch.where(allowed, apart.norm(dim=1), torch.inf).argmin())
        assert f"(id {at}) at" in page.locator("#point").inner_text()
        assert page.locator("#status").inner_text() == page.locator("#point").inner_text()
    assert page.evaluate("document.activeElement.id") == "plane"
    page.keyboard.press("Home")
    chosen = page.locator("#tokens button[aria-pressed=true]").get_attribute("data-position")
    assert f"(id {findings.ids[int(chosen)]}) at" in page.locator("#point").inner_text()


def test_the_nearest_tokens_are_those_found(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    for position in (0, 7):
        token(page, position).click()
        lines = page.locator("#near li")
        near = findings.neighbours[findings.ids[position]]
        assert findings.labels[position] in page.locator("#near h3").inner_text()
        assert lines.locator("span:first-child").first.inner_text() == findings.vocabulary[near[0][0]]
        shown = [line.split() for line in lines.all_inner_texts()]
        assert [label for label, _ in shown] == [findings.vocabulary[i] for i, _ in near]
        assert numbers_in(" ".join(said for _, said in shown)) == pytest.approx([c for _, c in near], abs=0.006)
        widths = lines.locator(".bar span").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
        assert widths == pytest.approx([max(0, 100 * cosine) for _, cosine in near], abs=0.01)
        page.locator("#plane").hover(position=spot(page, "#plane", "tokenPlane", near[0][0]))
        said = page.locator("#point").inner_text().partition("cosine with ")[2]
        assert numbers_in(said)[-1] == pytest.approx(near[0][1], abs=0.006)


@pytest.mark.parametrize("kind", ["learned", "rotary", "sinusoidal"])
def test_positions_lie_where_they_were_found(opened: Any, kind: str) -> None:
    findings = findings_of(TEXT, position=kind)
    assert findings.positions is not None
    page = opened(findings)
    assert_drawn(page, "positionPlane", findings.positions.coordinates)
    axes = [numbers_in(word)[0] for word in written(page, "drawPositions()") if "of the variance" in word]
    assert axes == pytest.approx((100 * findings.positions.explained[:2]).tolist(), abs=0.5)
    token(page, 5).click()
    page.locator("#places").focus()
    page.keyboard.press("ArrowRight")
    assert token(page, 6).get_attribute("aria-pressed") == "true"
    page.keyboard.press("End")
    said = page.locator("#where").inner_text()
    assert said.startswith("Position 255, behind the text, at")
    assert numbers_in(said)[1:] == pytest.approx(findings.positions.coordinates[-1, :2].tolist(), abs=0.006)
    assert page.locator("#status").inner_text() == said
    assert token(page, 6).get_attribute("aria-pressed") == "true"
    page.locator("#places").click(position=spot(page, "#places", "positionPlane", 3))
    assert token(page, 3).get_attribute("aria-pressed") == "true"


def test_the_similarity_of_positions_is_the_one_found(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    found = findings.similarity
    assert found is not None
    place = page.evaluate("similarityPlace")
    for row, column in ((9, 3), (3, 9), (20, 20)):
        middle = {axis: place["margin"] + place["cell"] * (i + 0.5) for axis, i in (("x", column), ("y", row))}
        page.locator("#similarity").hover(position=middle)
        said = page.locator("#alike").inner_text()
        assert said.startswith(f"Positions {row} and {column}: cosine")
        assert numbers_in(said)[-1] == pytest.approx(float(found[row, column]), abs=0.01)
    page.locator("#similarity").click(position=middle)
    assert token(page, 20).get_attribute("aria-pressed") == "true"
    shown = page.locator("#similarity-table td:last-child").all_text_contents()
    assert numbers_in(" ".join(shown)) == pytest.approx(found[20].tolist(), abs=0.006)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    said = page.locator("#alike").inner_text()
    assert said.startswith("Positions 19 and 18: cosine") and page.locator("#status").inner_text() == said
    assert numbers_in(page.locator("#lowest").inner_text()) == pytest.approx([min(0, float(found.min()))], abs=0.01)
    reds = page.evaluate(
        "[...similarityPicture.getContext('2d').getImageData(0, 0, T, T).data.filter((_, i) => !(i % 4))]"
    )
    painted = torch.tensor(reds).view_as(found)  # a red that falls from white paper on
    assert painted.argmin() in found.flatten().sort().indices[-len(TEXT) :]
    assert painted.flatten()[found.argmin()] == painted.max()


def test_where_there_are_no_positions_it_says_so(opened: Any) -> None:
    page = opened(findings_of(TEXT, position="none"))
    assert page.locator("#no-positions").is_visible() and not page.locator("#positions").is_visible()
    token(page, 3).click()
    page.keyboard.press("ArrowRight")
    assert token(page, 4).get_attribute("aria-pressed") == "true"


def test_sampling_shows_what_the_filters_make(opened: Any) -> None:
    findings = findings_of(TEXT, vocab_size=64)
    page = opened(findings)
    V = len(findings.vocabulary)
    before = findings.effects[0].probabilities
    likeliest = before.topk(20).indices
    others = [i for i in range(V) if i not in likeliest]
    last = len(TEXT) - 1
    assert page.locator("#behind").inner_text() == f"{findings.labels[last]} ({last})"
    radios = page.locator("#settings label").all_inner_texts()
    assert [radio.strip() for radio in radios] == [effect.name for effect in findings.effects]
    widths: list[float] = []
    for effect in reversed(findings.effects):  # the first one is chosen already
        page.get_by_label(effect.name, exact=True).check()
        said = page.locator("#distribution caption").inner_text()
        assert said.startswith(f"{effect.name}: {effect.kept} of {V} tokens") and f" {effect.entropy:.2f} bits" in said
        assert page.locator("#status").inner_text() == said
        rows = page.locator("#distribution tbody tr")
        names = [findings.vocabulary[i] for i in likeliest.tolist()] + [f"{len(others)} others"]
        assert rows.locator("th").all_text_contents() == names
        for column, shares in ((2, before), (3, effect.probabilities)):
            shown = rows.locator(f"td:nth-child({column})").all_text_contents()
            expected = [*shares[likeliest].tolist(), shares[others].sum().item()]
            assert [text == "out" for text in shown] == [share == 0 for share in expected]
            told = [0.0 if text == "out" else percent_in(text) for text in shown]
            assert told == pytest.approx(expected, abs=0.006)
        bars = rows.locator(".bar span").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
        widths += [width / share for width, share in zip(bars, expected, strict=True) if share > 0]
        marks = rows.locator(".bar i").evaluate_all("marks => marks.map(mark => parseFloat(mark.style.left))")
        assert torch.tensor(marks[:20]) / marks[0] == pytest.approx(
            (before[likeliest] / before.max()).numpy(), rel=1e-3
        )
        chosen = page.locator("#compared tr.chosen")
        assert chosen.inner_text().split() == [*effect.name.split(), str(effect.kept), f"{effect.entropy:.2f}"]
    assert widths == pytest.approx([widths[0]] * len(widths), rel=1e-3)  # one scale for all
    token(page, 3).click()  # it is about the whole text, whatever is looked at
    assert page.locator("#distribution caption").inner_text() == said
    page.locator("#settings input").last.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#distribution caption").inner_text().startswith(findings.effects[-2].name)


def test_a_large_vocabulary(opened: Any, tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    torch.manual_seed(1)
    model = make_model(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=64, vocab_size=50_304)).eval()
    findings = look(model, tokenizer, tokenizer.encode(TEXT), "Many")
    page = opened(findings)
    assert (tmp_path / "page.html").stat().st_size < 1_200_000
    assert_drawn(page, "tokenPlane", findings.embedding.coordinates)
    page.locator("#plane").hover(
        position=spot(page, "#plane", "tokenPlane", int(findings.embedding.coordinates[:, 0].argmax()))
    )
    assert f"(id {findings.embedding.coordinates[:, 0].argmax()}) at" in page.locator("#point").inner_text()
    drawn = drawn_points(page, "tokenPlane")
    crowd = (drawn - drawn[findings.ids[0]]).norm(dim=1)
    other = int(torch.where(crowd > 2, crowd, torch.inf).argmin())  # beside the dot of a token of the text
    page.locator("#plane").hover(position=spot(page, "#plane", "tokenPlane", other))
    assert crowd[other] < 4 and f"(id {findings.ids[0]}) at" in page.locator("#point").inner_text()
    assert page.locator("#distribution tbody th").last.inner_text() == "50,284 others"
    assert findings.labels[-1] in written(page, "drawEmbeddings()")
    assert_names_are_apart(page, 0)


def test_no_browser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("needs a browser", None), ("pip install playwright", "playwright.sync_api")):
        with monkeypatch.context() as without:
            without.setattr(f"{__name__}.find_browser", lambda: None)
            if module:
                without.setitem(sys.modules, module, None)
            without.delenv("GLASSGPT_NEEDS_BROWSER", raising=False)
            with pytest.raises(pytest.skip.Exception, match=name):
                next(launch())
            without.setenv("GLASSGPT_NEEDS_BROWSER", "1")
            with pytest.raises(pytest.fail.Exception, match=name):
                next(launch())


def test_dark_and_light(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    most = int(findings.probabilities.surprise.argmax()) + 1
    assert lightness(page.locator("html")) > 240 and lightness(token(page, most)) < 110
    before = page.evaluate("ink")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert lightness(page.locator("html")) < 40 and lightness(token(page, most)) > 110
    after = page.evaluate("ink")
    assert all(after[name] != before[name] for name in before)  # what canvases are drawn with


def test_it_can_be_read_to_someone(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    ids = {
        "The text, token by token": "text",
        "Attention": "attention",
        "Logit lens": "lens",
        "Heads in numbers": "heads",
        "Embeddings": "embeddings",
        "Sampling": "sampling",
    }
    for name, place in ids.items():
        assert page.get_by_role("region", name=name, exact=True).count() == 1
        assert page.get_by_role("navigation").locator(f"a[href='#{place}']").count() == 1
    assert page.locator("[aria-live=polite]").count() == 1
    assert page.get_by_role("button", name="layer 2, head 3", exact=True).count() == 1
    nameless = (
        "[...document.querySelectorAll('button, select, input, canvas[tabindex]')].filter(e => "
        "!(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.getAttribute('aria-labelledby')))"
    )
    assert page.evaluate(f"{nameless}.length") == 0
    described = (
        "[...document.querySelectorAll('canvas[tabindex]')]"
        ".map(e => e.getAttribute('role') + ' ' + $(e.getAttribute('aria-describedby'))?.tagName)"
    )
    assert page.evaluate(described) == ["application P"] * 4  # each picture has a line that says what is chosen,
    for name in ("Layer 0, head 0", "tokens", "positions, from", "How alike"):  # and a name, with what keys do
        assert page.get_by_role("application", name=re.compile(f"{name}.* Arrow keys .*choose")).count() == 1
    right = findings.lens.next_rank == 1
    told = page.locator("#lens-table").get_by_role("gridcell", name=re.compile("which really comes next$"))
    cells = told.evaluate_all("cells => cells.map(cell => [cell.dataset.depth, cell.dataset.position])")
    assert [[int(place) for place in cell] for cell in cells] == right.nonzero().tolist() and cells


def contrast(one: str, other: str) -> float:
    """As the WCAG define it, of two colours as the browser tells them, neither of them clear."""
    lights = []
    for colour in (one, other):
        channels = [int(channel) / 255 for channel in re.findall(r"\d+", colour)]
        assert len(channels) == 3, colour
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)


def test_whatever_is_written_can_be_read(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    page.get_by_label("what the token looks at").check()
    token(page, 5).click()
    page.locator("h1").hover()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"dark.matches === {str(scheme == 'dark').lower()} && ramp[0][0] < 100 === dark.matches")
        shades = page.evaluate(
            """() => Array.from({ length: 256 }, (_, i) => {
                const element = document.body.appendChild(document.createElement("i"));
                paint(element, i / 255);
                const { backgroundColor, color } = getComputedStyle(element);
                element.remove();
                return [backgroundColor, color];
            })"""
        )
        assert len({ground for ground, _ in shades}) > 200
        assert min(contrast(*shade) for shade in shades) >= 4.5
        paper = background(page.locator("html"))
        for place in ("#tokens .later", ".how", "#key .near", "#key .of-text", "#key .other"):
            style = page.locator(place).first.evaluate(
                "e => { const s = getComputedStyle(e); return [s.color, s.opacity]; }"
            )
            assert contrast(style[0], paper) >= 4.5 and style[1] == "1", (scheme, place)


def test_forced_colours_keep_what_says_something(opened: Any, findings: Findings) -> None:
    page = opened(findings)
    page.emulate_media(forced_colors="active")
    page.locator("#grid button").nth(5).click()
    token(page, 7).click()
    page.locator("h1").click()  # so that nothing has the focus
    page.locator("h1").evaluate("() => document.activeElement.blur()")
    line = "elements => elements.filter(e => getComputedStyle(e).outlineStyle === 'solid').length"
    for place, chosen in (("#tokens button", "pressed"), ("#grid button", "pressed"), ("#lens-table td", "selected")):
        assert page.locator(place).evaluate_all(line) == 1
        assert page.locator(f"{place}[aria-{chosen}=true]").evaluate_all(line) == 1
    grounds = "elements => new Set(elements.map(e => getComputedStyle(e).backgroundColor)).size"
    assert page.locator("#tokens button").evaluate_all(grounds) > 10
    assert page.locator("#lens-table td").evaluate_all(grounds) > 10
    assert background(page.locator(".bar span").first) != background(page.locator(".bar").first)
    assert "gradient" in page.locator(".ramp").first.evaluate("ramp => getComputedStyle(ramp).backgroundImage")


def test_what_is_chosen_comes_into_sight_and_from_under_the_status(opened: Any) -> None:
    page = opened(findings_of(LONG[:60], n_layer=6))
    inside = """place => {
        const chosen = document.querySelector(`${place} [aria-pressed=true]`).getBoundingClientRect();
        const box = document.querySelector(place).getBoundingClientRect();
        return box.top <= chosen.top && chosen.bottom <= box.bottom;
    }"""
    page.set_viewport_size({"width": 1200, "height": 500})
    for layer in (5, 0, 3):
        button = page.get_by_role("button", name=f"choose layer {layer}, head 2")
        button.scroll_into_view_if_needed()
        before = page.evaluate("scrollY")
        button.click()
        assert page.evaluate(inside, "#grid") and page.evaluate("scrollY") == before > 0
    hidden = """() => {
        const { top, bottom } = document.activeElement.getBoundingClientRect(), low = bottom - top < 200;
        return low && document.activeElement.closest("main") && top < $("status").getBoundingClientRect().bottom;
    }"""
    page.locator("#settings input").first.focus()
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        assert not page.evaluate(hidden), page.evaluate("document.activeElement.outerHTML")


def test_it_can_be_printed(opened: Any) -> None:
    page = opened(findings_of(LONG[:64], n_layer=1, n_head=32))
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert token(page, 3).evaluate("button => getComputedStyle(button).printColorAdjust") == "exact"
    pictures = small_pictures(page, 32, 8)  # they lie in their frames still
    assert (pictures[:, 5, :4] >= 0).all() and (pictures[:, 2, 4:] == -1).all()


def test_without_scripts_it_says_so_and_shows_nothing_empty(browser: Any, findings: Findings, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", findings)
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert not page.locator("main").is_visible() and not page.locator("nav").is_visible()
    said = page.locator("body").inner_text()
    assert "scripts are switched off" in said and "pictures may" in said  # --no-pictures leaves them out
    context.close()


@pytest.mark.parametrize("length", [1, 4, 205])
def test_any_length(opened: Any, length: int) -> None:
    findings = findings_of(LONG[:length])
    page = opened(findings)
    assert page.locator("#tokens button").count() == length
    token(page, length - 1).click()
    page.keyboard.press("Home")
    assert token(page, 0).get_attribute("aria-pressed") == "true"
    if length > 64:
        assert page.locator("#lens-table thead th").count() == 65  # a part of the positions at a time
        page.locator("#later").click()
        assert page.locator("#range").inner_text() == "positions 64 to 127 of 205"
        assert page.locator("#later").is_enabled()
        page.locator("#earlier").click()
        assert page.locator("#earlier").is_disabled()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    page.set_viewport_size({"width": 400, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("room", [0, 2])
def test_what_is_left_out_is_said(opened: Any, findings: Findings, room: int) -> None:
    limit = 4 * len(TEXT) * (len(TEXT) + 1) // 2 * 4 // 3 * room
    page = opened(findings, limit=_without_attention(findings) + limit + 1100)
    assert "the attention maps of" in page.locator("#left-out").inner_text()
    assert page.locator("#grid button").count() == 4 * room and page.locator("#grid canvas").count() == room
    assert page.locator("#grid .none").count() == 4 * (3 - room)
    assert page.locator("#statistics button[disabled]").count() == 4 * (3 - room)
    last = page.locator("#statistics td:last-child").all_inner_texts()
    assert last.count("left out") == 4 * (3 - room)
    if not room:
        assert "left out" in page.locator("#cell").inner_text() and "left out" in page.locator("#token").inner_text()
    token(page, 3).click()
    page.keyboard.press("ArrowRight")
    assert token(page, 4).get_attribute("aria-pressed") == "true"


def test_without_how_alike_positions_are_the_rest_works(opened: Any, findings: Findings) -> None:
    page = opened(findings, limit=1000)
    assert "how alike the text's positions are" in page.locator("#left-out").inner_text()
    assert page.locator("#no-similarity").is_visible() and not page.locator("#similarity").is_visible()
    page.locator("#places").focus()
    page.keyboard.press("ArrowLeft")
    assert token(page, len(TEXT) - 2).get_attribute("aria-pressed") == "true"
    page.emulate_media(color_scheme="dark")  # drawn anew
    assert "looks most" not in page.locator("#status").inner_text()


def _without_attention(findings: Findings) -> int:
    from glassgpt.inspection.page import _data, _fill

    return len(_fill(_data(findings)).encode())


def test_small_pictures_of_many_tokens_keep_the_largest_weights(opened: Any) -> None:
    findings = findings_of(LONG[:200], n_layer=1, n_head=2)
    findings.attention.zero_()
    findings.attention[0, 1, 150, 33] = 1.0
    page = opened(findings)
    side = page.evaluate("thumbSize - 2 * thumbRim")
    assert side < 200 and 33 * side // 200 == 34 * side // 200  # so that the last in its square is another one
    blank, picture = small_pictures(page, 2, side)
    darkest = picture.masked_fill(picture < 0, 256)
    assert divmod(int(darkest.argmin()), side) == (150 * side // 200, 33 * side // 200)
    assert (darkest < 200).sum() == 1 and blank[blank >= 0].min() > 200


def test_each_colour_of_the_lens_is_on_its_own_scale(opened: Any, findings: Findings) -> None:
    page, lens, last = opened(findings), findings.lens, len(TEXT) - 1
    scales = {"top": lens.top_probabilities[..., 0], "next": lens.next_probability}
    scales["entropy"] = lens.entropy / torch.tensor(float(len(findings.vocabulary))).log()
    for name, shares in scales.items():
        page.select_option("#lens-colour", name)
        for depth in range(4):
            for position in (0, 7, last):
                cell = page.locator(f"#lens-table td[data-depth='{depth}'][data-position='{position}']")
                red, green, blue = page.evaluate("share => colour(share)", shares[depth, position].item())
                assert background(cell) == f"rgb({red}, {green}, {blue})", (name, depth, position)


def test_the_chosen_position_of_a_long_text_is_brought_into_sight(opened: Any) -> None:
    page = opened(findings_of(LONG[:60]))
    page.set_viewport_size({"width": 400, "height": 700})
    for position in (59, 0, 30):
        page.locator("#tokens button").nth(position).click()
        inside = page.evaluate(
            """() => {
                const [box, cell] = ["#lens-scroll", "#lens-table td[aria-selected=true]"]
                    .map((selector) => document.querySelector(selector).getBoundingClientRect());
                return box.left <= cell.left && cell.right <= box.right + 1;
            }"""
        )
        assert inside, position
