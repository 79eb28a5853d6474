"""The numbers behind page and pictures, as CSV and JSON."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glassgpt.inspection.findings import Findings
from glassgpt.inspection.sampling import LIKELIEST

MOST_WEIGHTS = 10_000_000
"""The most attention weights that are written as text: about 70 MB."""

Row = dict[str, Any]


def write_tables(findings: Findings, folder: Path) -> list[str]:
    """Write tables as CSV and JSON, what is a matrix as CSV alone. Returns what was too large, in words."""
    for name, rows in _tables(findings).items():
        _write_csv(folder / f"{name}.csv", list(rows[0]) if rows else [], (row.values() for row in rows))
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    if findings.similarity is not None:
        names = [f"position_{position}" for position in range(len(findings.ids))]
        cosines = (map("{:.4f}".format, row) for row in findings.similarity.tolist())
        _write_csv(folder / "position-similarity.csv", names, cosines)
    L, H, T, _ = findings.attention.shape
    if (number := L * H * T * (T + 1) // 2) > MOST_WEIGHTS:
        return [f"attention.csv: {number:,} weights (from Python: glassgpt.inspection.attention.attention_maps)"]
    _write_csv(
        folder / "attention.csv",
        ["layer", "head", "query", *(f"key_{position}" for position in range(T))],
        (
            [layer, head, query, *map("{:.5g}".format, row[: query + 1])]
            for layer in range(L)
            for head in range(H)
            for query, row in enumerate(findings.attention[layer, head].tolist())
        ),
    )
    return []


def _tables(findings: Findings) -> dict[str, list[Row]]:
    """All tables by name; the rows of one have the same columns."""
    tables = {
        "tokens": _tokens(findings),
        "heads": [asdict(head) for head in findings.heads],
        "lens": _lens(findings),
        "sampling": _sampling(findings),
        "embedding": [
            {"id": i, "token": label, "x": x, "y": y}
            for i, (label, (x, y)) in enumerate(
                zip(findings.vocabulary, findings.embedding.coordinates[:, :2].tolist(), strict=True)
            )
        ],
        "neighbours": _neighbours(findings),
        "explained": _explained(findings),
    }
    if findings.positions is not None:
        places = findings.positions.coordinates[:, :2].tolist()
        tables["positions"] = [{"position": position, "x": x, "y": y} for position, (x, y) in enumerate(places)]
    return tables


def _tokens(findings: Findings) -> list[Row]:
    names = {"probability": "probability", "rank": "rank", "surprise": "surprise_bits", "entropy": "entropy_bits"}
    figures = {shown: [None, *getattr(findings.probabilities, name).tolist()] for name, shown in names.items()}
    return [
        {"position": position, "id": i, "token": label, **{name: values[position] for name, values in figures.items()}}
        for position, (i, label) in enumerate(zip(findings.ids, findings.labels, strict=True))
    ]


def _lens(findings: Findings) -> list[Row]:
    lens, vocabulary, last = findings.lens, findings.vocabulary, len(findings.ids) - 1
    return [
        {
            "layer": layer,
            "position": position,
            "token": label,
            "next_probability": lens.next_probability[row, position].item() if position < last else None,
            "next_rank": int(lens.next_rank[row, position]) if position < last else None,
            "entropy_nats": lens.entropy[row, position].item(),
            **{f"top_{k}": vocabulary[i] for k, i in enumerate(lens.top_ids[row, position].tolist(), 1)},
            **{f"p_{k}": share for k, share in enumerate(lens.top_probabilities[row, position].tolist(), 1)},
        }
        for row, layer in enumerate(lens.layers)
        for position, label in enumerate(findings.labels)
    ]


def _sampling(findings: Findings) -> list[Row]:
    vocabulary = findings.vocabulary
    likeliest = findings.effects[0].probabilities.topk(min(LIKELIEST, len(vocabulary))).indices.tolist()
    return [
        {
            "setting": effect.name,
            "kept": effect.kept,
            "entropy_bits": effect.entropy,
            "id": i,
            "token": vocabulary[i],
            "probability": effect.probabilities[i].item(),
        }
        for effect in findings.effects
        for i in likeliest
    ]


def _neighbours(findings: Findings) -> list[Row]:
    vocabulary = findings.vocabulary
    return [
        {"id": i, "token": vocabulary[i], "neighbour_id": other, "neighbour": vocabulary[other], "cosine": cosine}
        for i, near in findings.neighbours.items()
        for other, cosine in near
    ]


def _explained(findings: Findings) -> list[Row]:
    projections = {"token": findings.embedding, "position": findings.positions}
    return [
        {"embedding": name, "component": number, "share_of_variance": share}
        for name, projection in projections.items()
        if projection is not None
        for number, share in enumerate(projection.explained.tolist(), 1)
    ]


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table for any program; None is an empty field."""
    with path.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
