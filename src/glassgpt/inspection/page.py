"""The page to explore it all with: one file that needs nothing else, no network least of all."""

import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.resources import files
from math import log, log2
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.files import write_text
from glassgpt.inspection.embeddings import Projection
from glassgpt.inspection.findings import Findings
from glassgpt.inspection.sampling import LIKELIEST, Effect

SCRIPT = (
    "base",  # state and small helpers
    "colours",
    "drawing",
    "weights",
    "text",  # from here on, the parts of the page
    "attention",
    "lens",
    "heads",
    "embeddings",
    "positions",
    "sampling",
    "start",
)
"""The files of the page's script, in the order in which they are put together."""

LIMIT = 20_000_000
"""The most bytes that a page may have; above, it leaves out attention, or how alike positions are."""


@dataclass(frozen=True)
class PageInfo:
    """What was written.

    Attributes:
        bytes: its size.
        left_out: what is not on the page, in words; the page says so, too.
    """

    bytes: int
    left_out: list[str]


def write_page(path: Path, findings: Findings, *, limit: int = LIMIT) -> PageInfo:
    """Write the page, whole or not at all.

    Args:
        path: an .html file.
        findings: what it shows.
        limit: the most bytes that it may have, as far as leaving out what grows with the square of the text helps.

    Raises:
        OSError: it cannot be written.
    """
    L, H, T, _ = findings.attention.shape
    data = _data(findings)
    room = limit - len(_fill(data).encode()) - 1000  # for what is said of what is left out
    per_layer = 4 * -(-H * T * (T + 1) // 2 // 3) + 3
    if data["positions"]:
        similarity = len(data["positions"]["similarity"])
        if room < 0 or room < per_layer <= room + similarity:  # rather than it, the attention of a layer at least
            data["positions"]["similarity"] = None
            data["left_out"].append("how alike the text's positions are (with fewer tokens, it fits)")
            room += similarity
    kept = _spread(L, min(L, max(0, room // per_layer)))
    data["attention"] = [pack(findings.attention[layer]) if layer in kept else None for layer in range(L)]
    missing = [str(layer) for layer in range(L) if layer not in kept]
    if missing:
        layers = "all layers" if not kept else f"layer{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        data["left_out"].insert(0, f"the attention maps of {layers} (with fewer tokens of text, they fit)")
    page = _fill(data)
    write_text(path, page)
    return PageInfo(len(page.encode()), data["left_out"])


def pack(weights: Tensor) -> str:
    """One layer's attention, (H, T, T), as the page takes it: a byte for each weight that may be more than 0.

    The byte is 255 √w, rounded: so small weights, of which there are most, are kept more exactly than large ones.
    """
    rows, columns = torch.tril_indices(*weights.shape[-2:])
    roots = weights[:, rows, columns].clamp(0, 1).sqrt()  # (H, T (T + 1) / 2)
    return b64encode((255 * roots).round().to(torch.uint8).numpy().tobytes()).decode("ascii")


def _pack_points(projection: Projection) -> dict[str, Any]:
    """Vectors in their first two directions, x and y in turn: two bytes each, of which 32767 stands for the scale."""
    points = projection.coordinates[:, :2]
    scale = points.abs().max().item() or 1.0
    whole = (points * (32767 / scale)).round().numpy().astype("<i2")
    return {
        "points": b64encode(whole.tobytes()).decode("ascii"),
        "scale": scale,
        "explained": _rounded(projection.explained, 5),
    }


def _pack_positions(findings: Findings) -> dict[str, Any] | None:
    """Where positions lie, and how alike the text's are: 127 times the cosine, of the lower triangle."""
    if findings.positions is None or findings.similarity is None:
        return None
    rows, columns = torch.tril_indices(*findings.similarity.shape)
    cosines = (127 * findings.similarity[rows, columns].clamp(-1, 1)).round().to(torch.int8)
    packed = b64encode(cosines.numpy().tobytes()).decode("ascii")
    return {**_pack_points(findings.positions), "similarity": packed}


def _sampling(effects: list[Effect]) -> dict[str, Any]:
    """What settings make of the tokens that were the likeliest, and of all others together."""
    likeliest = effects[0].probabilities.topk(min(LIKELIEST, len(effects[0].probabilities))).indices
    others = torch.ones(len(effects[0].probabilities), dtype=torch.bool).index_fill(0, likeliest, False)
    return {
        "likeliest": likeliest.tolist(),
        "settings": [
            {
                "name": effect.name,
                "kept": effect.kept,
                "entropy": round(effect.entropy, 4),
                # Not rounded to 0: that says that a token cannot be drawn.
                "shares": [float(f"{share:.4g}") for share in effect.probabilities[likeliest].tolist()],
                "rest": float(f"{effect.probabilities[others].sum().item():.4g}"),
            }
            for effect in effects
        ],
    }


def _spread(number: int, kept: int) -> set[int]:
    """So many of the numbers 0, 1, …, evenly spread, the last among them, then the first."""
    return {number - 1 - round(i * (number - 1) / max(1, kept - 1)) for i in range(kept)}


def _data(findings: Findings) -> dict[str, Any]:
    """What the script reads, but for attention."""
    lens, tokens = findings.lens, findings.probabilities
    V = len(findings.vocabulary)
    pairs = [
        list(map(list, zip(ids, _rounded(shares, 5), strict=True)))
        for ids, shares in zip(tokens.top_ids.tolist(), tokens.top_probabilities, strict=True)
    ]
    return {
        "title": findings.title,
        "about": findings.about,
        "left_out": list[str](),
        "layers": findings.attention.shape[0],
        "heads": findings.attention.shape[1],
        "ids": findings.ids,
        "tokens": findings.labels,
        "vocabulary": findings.vocabulary,
        "probability": [None, *_rounded(tokens.probability, 5)],
        "rank": [None, *tokens.rank.tolist()],
        "surprise": [None, *_rounded(tokens.surprise, 3)],
        "entropy": [None, *_rounded(tokens.entropy, 3)],
        "top": [None, *pairs],
        "surprise_scale": max(1.0, log2(V)),
        "entropy_scale": max(1.0, log(V)),
        "lens": {
            "layers": lens.layers,
            "ids": lens.top_ids.tolist(),
            "probabilities": _rounded(lens.top_probabilities, 5),
            "next_rank": lens.next_rank.tolist(),
            "next_probability": _rounded(lens.next_probability, 5),
            "entropy": _rounded(lens.entropy, 3),
        },
        "statistics": [
            {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(head).items()}
            for head in findings.heads
        ],
        "embedding": _pack_points(findings.embedding),
        "neighbours": {
            i: [(other, round(cosine, 4)) for other, cosine in near] for i, near in findings.neighbours.items()
        },
        "positions": _pack_positions(findings),
        "effects": _sampling(findings.effects),
        "attention": list[str | None](),
    }


def _rounded(values: Tensor, digits: int) -> list[Any]:
    """A tensor as lists of numbers with few digits."""

    def short(value: Any) -> Any:
        return [short(each) for each in value] if isinstance(value, list) else round(value, digits)

    rounded: list[Any] = short(values.tolist())
    return rounded


def _fill(data: dict[str, Any]) -> str:
    """The page's parts put together."""
    parts = files("glassgpt.inspection") / "page"
    html, css = ((parts / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
    js = "\n".join((parts / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPT)
    # In ASCII, so that any string fits (lone surrogates too); and no text of the data can end the element it is in.
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return _replaced(html, (("/*{css}*/", css), ("/*{js}*/", js), ("/*{data}*/", embedded)))


def _replaced(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    """Each mark, which stands there once, replaced; the data come last, as they may hold what looks like a mark."""
    for mark, value in replacements:
        before, found, after = text.partition(mark)
        assert found, mark
        text = before + value + after
    return text
