"""The results as a page of Markdown tables, to be pasted into docs/performance.md."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def page(found: dict[str, Any]) -> str:
    """All parts that there are results of."""
    parts = found["parts"]
    sections = [_title(found), _machine(parts.get("machine", {}).get("rows", []))]
    checks = [row for part in ("correctness", "modes", "compile") for row in parts.get(part, {}).get("rows", [])]
    sections += [
        _section("Correctness", checks, CHECKS),
        _section("Training", parts.get("training", {}).get("rows", []), TRAINING),
        _section("To 1.4697 nats", parts.get("recipe", {}).get("rows", []), RECIPE),
        _section("Decoding", parts.get("decoding", {}).get("rows", []), DECODING),
        _ends(parts),
    ]
    return "\n\n".join(section for section in sections if section)


def _title(found: dict[str, Any]) -> str:
    missing = found.get("packages", {}).get("missing")
    lines = [
        "## On a GPU" if not found["small"] else "## On a CPU that stands in for a GPU (these are no figures)",
        "",
        f"`python3 benchmarks/gpu.py {' '.join(found['command'])}`, {found['began']}, commit {found['commit']}, "
        f"{found.get('seconds', 0):.0f} s.",
    ]
    return "\n".join([*lines, *(["", f"Packages that were missing: {', '.join(missing)}."] if missing else [])])


def _machine(rows: Sequence[Row]) -> str:
    by_name = {row.get("what"): row for row in rows}
    said = []
    if card := by_name.get("card"):
        said.append(
            f"{card['name']} (compute capability {card['capability']}, {card['memory_bytes'] / 2**30:.0f} GiB, driver "
            f"{card.get('driver_version', 'unknown')}, {card.get('power.limit', 'unknown limit')})"
        )
    if software := by_name.get("software"):
        said.append(f"PyTorch {software['torch']}, Python {software['python']}, {software['cores']} CPU cores")
    limits = by_name.get("limits", {})
    for name, speed in limits.get("matmul_flops_per_second", {}).items():
        said.append(f"{_flops(speed)} in {name} matrix products")
    if "memory_read_bytes_per_second" in limits:
        said.append(f"{limits['memory_read_bytes_per_second'] / 1e9:,.0f} GB/s read from memory")
    if "bytes_per_second" in by_name.get("copying", {}):
        said.append(f"{by_name['copying']['bytes_per_second'] / 1e9:,.0f} GB/s copying in it (read and written)")
    return "; ".join(said) + "." if said else ""


Column = tuple[str, Callable[[Row], str]]


def _section(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A table, or nothing where there are no rows. A row that has no figures says why in its last column."""
    if not rows:
        return ""
    lines = [_line(name for name, _ in columns), "|" + "---|" * len(columns)]
    lines += [_line(_cell(show, row) for _, show in columns) for row in rows]
    return "\n".join([f"### {title}", "", *lines])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _cell(show: Callable[[Row], str], row: Row) -> str:
    try:
        return show(row)
    except (KeyError, TypeError, ValueError):
        return ""


def _flops(speed: float) -> str:
    return f"{speed / 1e12:,.1f} TFLOP/s" if speed >= 1e12 else f"{speed / 1e9:,.1f} GFLOP/s"


def _spread(values: dict[str, Any], show: str = ",.0f", times: float = 1.0) -> str:
    """The median and, where there were several rounds, the lowest and highest."""
    middle, low, high = (format(times * values[key], show) for key in ("median", "lowest", "highest"))
    return middle if len(values["rounds"]) == 1 else f"{middle} ({low} to {high})"


def _note(row: Row) -> str:
    """Why there is nothing, or less."""
    state = row.get("state", "done")
    if state in ("done", "passed"):
        return ""
    needed = f"{row['needed']:.0f} s were needed" if "needed" in row else ""
    return ": ".join(filter(None, (state, row.get("why") or needed)))


def _measured(row: Row) -> str:
    """All figures of a check."""
    fixed = ("check", "state", "seconds", "why", "at", "needed")
    figures = {key: value for key, value in row.items() if key not in fixed}
    shown = [f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()]
    return _note(row) or "; ".join(shown)


CHECKS: Sequence[Column] = (
    ("check", lambda row: row["check"]),
    ("", lambda row: row["state"]),
    ("measured", _measured),
)
TRAINING: Sequence[Column] = (
    ("model", lambda row: row["model"]),
    ("", lambda row: row.get("side", "") + (", compiled" if row.get("compiled") else "")),
    ("batch x context", lambda row: f"{row['batch']} x {row['context']}"),
    ("tokens/s", lambda row: _spread(row["tokens_per_second"])),
    ("MFU", lambda row: _spread(row["mfu"], ".1f", 100.0) + " %"),
    ("step", lambda row: f"{row['step_ms']:.1f} ms"),
    ("first steps", lambda row: f"{row['first_steps_seconds']:.1f} s"),
    ("memory", lambda row: f"{row['peak_bytes'] / 2**30:.1f} GiB"),
    ("", _note),
)
RECIPE: Sequence[Column] = (
    ("recipe", lambda row: row["recipe"] + (", compiled" if row.get("compiled") else "")),
    ("at the target after", lambda row: f"step {row['reached']['step']:,}, {row['reached']['tokens']:,} tokens"),
    ("training until then", lambda row: f"{row['reached']['training_seconds']:.1f} s"),
    ("at its end", lambda row: f"{row['best']:.4f} (best) after {row['tokens']:,} tokens"),
    ("training", lambda row: f"{row['training_seconds']:.1f} s, {row['tokens_per_second']:,.0f} tokens/s"),
    ("", _note),
)
DECODING: Sequence[Column] = (
    ("model", lambda row: row["model"]),
    ("texts at once", lambda row: str(row["batch"])),
    ("", lambda row: row.get("side", "")),
    ("tokens/s", lambda row: _spread(row["tokens_per_second"])),
    ("of the memory's bandwidth", lambda row: f"{100 * row['memory_bandwidth_share']:.1f} %"),
    ("until the first token", lambda row: f"{1e3 * row['first_seconds']:.1f} ms"),
    ("texts as eager's", lambda row: f"{100 * row['same_ids_as_eager']:.0f} %"),
    ("", _note),
)


def _ends(parts: dict[str, Any]) -> str:
    """How long each part took, and what became of those that did not end well."""
    if not parts:
        return ""
    taken = ", ".join(f"{name} {part['seconds']:.0f} s" for name, part in parts.items())
    bad = [f"- {name}: {part['state']}" for name, part in parts.items() if part["state"] != "done"]
    return "\n".join([f"Parts: {taken}.", *(["", *bad] if bad else [])])
