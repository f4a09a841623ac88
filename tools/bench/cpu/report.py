"""The tables as Markdown."""

import statistics
from typing import Any

from table import row_of
from workloads import Generation, Workload

Limits = dict[str, Any]
"""What `kernel_peak machine` measured."""


def share(workload: Workload, measure: str, milliseconds: float, limits: Limits) -> tuple[str, float] | None:
    """What a measure does in a second, and its share of the machine's limit."""
    if measure == "token_ms" and isinstance(workload, Generation):
        speed = workload.token_bytes / milliseconds / 1e6
        return f"{speed:.1f} GB/s", speed / limits["gb_per_s"]
    operations = {
        "prompt_ms": getattr(workload, "prompt_flops", None),
        "batch_ms": getattr(workload, "flops", None),
    }.get(measure)
    if operations is None:
        return None
    speed = operations / milliseconds / 1e6
    return f"{speed:.0f} GFLOP/s", speed / limits["gflops"]


def speed(workload: Workload, measure: str, milliseconds: float) -> str:
    """Tokens per second where tokens are counted, else milliseconds."""
    if measure == "prompt_ms" and isinstance(workload, Generation):
        return f"{workload.prompt / milliseconds * 1e3:.0f} tok/s"
    if measure == "token_ms":
        return f"{1e3 / milliseconds:.1f} tok/s"
    return f"{milliseconds:.0f} MB" if measure == "peak_rss_mb" else f"{milliseconds:.1f} ms"


def ratios(own: dict[str, Any], other: dict[str, Any], measure: str) -> list[float]:
    """How many times as fast castiron was as a peer, round by round."""
    mine, theirs = (by_round(row, measure) for row in (own, other))
    return [b / a for a, b in zip(mine, theirs, strict=False)]


def by_round(row: dict[str, Any], measure: str) -> list[float]:
    """The median of each round."""
    values, rounds = row["runs"].get(measure, []), max(1, len(row["load"]))
    each = max(1, len(values) // rounds)
    return [statistics.median(values[start : start + each]) for start in range(0, len(values), each)]


def summary(tables: list[tuple[Workload, dict[str, Any]]], limits: Limits) -> list[str]:
    """A line for each measure of each workload: castiron, the best peer, the ratio."""
    head = ["workload", "measure", "castiron", "of the limit", "best peer", "its", "of the limit", "castiron ÷ best"]
    head.append("taken by others")
    lines = [row_of(head), row_of(["---"] * len(head))]
    for workload, table in tables:
        own, *others = table["rows"]
        for measure, title in table["measures"].items():
            have = [row for row in others if measure in row["summary"]]
            mine = own["summary"].get(measure)
            if not mine:
                continue
            cells = [table["workload"], title.partition(",")[0], *with_share(workload, measure, mine["median"], limits)]
            if have:
                best = min(have, key=lambda row: row["summary"][measure]["median"])
                found = ratios(own, best, measure)
                cells += [best["peer"], *with_share(workload, measure, best["summary"][measure]["median"], limits)]
                cells.append(f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")
            cells += [""] * (len(head) - 1 - len(cells))
            lines.append(row_of([*cells, f"{statistics.median(own['others']):.0%}"]))
    return lines


def with_share(workload: Workload, measure: str, milliseconds: float, limits: Limits) -> list[str]:
    """A value, and its share of the limit."""
    found = share(workload, measure, milliseconds, limits)
    return [speed(workload, measure, milliseconds), f"{found[0]}, {found[1]:.0%}" if found else ""]


def grid(workload: Workload, table: dict[str, Any], limits: Limits) -> list[str]:
    """Every peer: medians, extremes in milliseconds, shares, and how many times as fast castiron was."""
    columns = ["", *table["measures"].values(), "taken by others"]
    lines = [row_of(columns), row_of(["---"] * len(columns))]
    own = table["rows"][0]
    for row in table["rows"]:
        if row["reason"]:
            lines.append(row_of([row["peer"], row["reason"], *[""] * (len(columns) - 2)]))
            continue
        cells = [row["peer"]]
        for measure in table["measures"]:
            found = row["summary"].get(measure)
            if not found:
                cells.append("not measured")
                continue
            least, middle, most = (f"{found[key]:.4g}" for key in ("least", "median", "most"))
            cell = f"{middle} [{least}, {most}]"
            limit = share(workload, measure, found["median"], limits)
            if limit:
                cell += f"; {limit[1]:.0%}"
            if row is not own and measure in own["summary"]:
                cell += f"; ×{statistics.median(ratios(own, row, measure)):.2f}"
            cells.append(cell)
        cells.append(f"{min(row['others']):.0%} to {max(row['others']):.0%}")
        lines.append(row_of(cells))
    return lines


def markdown(
    about: dict[str, Any], tables: list[tuple[Workload, dict[str, Any]]], more: dict[str, dict[str, Any]]
) -> str:
    """The summary, a table for each workload, and what was measured besides."""
    limits = about["limits"]
    lines = ["# castiron and its peers on the CPU", ""]
    lines += [f"- machine: {about['machine']}; {about['system']}"]
    lines.append(
        f"- limits on {limits['threads']} threads: {limits['gb_per_s']:.1f} GB/s read, {limits['gflops']:.0f} "
        f"GFLOP/s f32 with {limits['isa']}"
    )
    lines += [f"- {peer}: {version}" for peer, version in about["versions"].items()]
    lines.append(f"- command: `{about['command']}` ({about['rounds']} rounds of {about['runs']} runs)")
    if tables:
        lines += ["", "## Summary", "", *summary(tables, limits)]
    for workload, table in tables:
        lines += ["", f"## {table['title']}", "", *grid(workload, table, limits)]
    for part in more.values():
        columns = part["columns"]
        lines += ["", f"## {part['title']}", "", row_of(columns), row_of(["---"] * len(columns))]
        lines += [row_of(cells) for cells in part["cells"]]
    return "\n".join(lines) + "\n"
