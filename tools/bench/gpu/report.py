"""The tables as Markdown."""

from typing import Any

from table import row_of


def markdown(about: dict[str, Any], tables: list[dict[str, Any]]) -> str:
    """A table for each workload, headed by what it was measured on."""
    lines = ["# castiron and its peers on the CPU's Vulkan driver", ""]
    for key in ("machine", "adapters", "system"):
        lines.append(f"- {key}: {about[key]}")
    lines.append(f"- command: `{about['command']}` ({about['rounds']} rounds of {about['runs']} runs)")
    for table in tables:
        lines += ["", f"## {table['title']}", "", *grid(table)]
    return "\n".join(lines) + "\n"


def grid(table: dict[str, Any]) -> list[str]:
    """Medians, extremes, and how many times castiron's median a peer's is."""
    columns = ["", "version"]
    for title in table["measures"].values():
        columns += [title, "least to most", "× castiron"]
    columns.append("load average")
    lines = [row_of(columns), row_of(["---"] * len(columns))]
    own = table["rows"][0]["summary"]
    for row in table["rows"]:
        cells = [row["peer"], row["version"]]
        if row["reason"]:
            cells += [row["reason"]] + [""] * (len(columns) - 3)
            lines.append(row_of(cells))
            continue
        for measure in table["measures"]:
            found = row["summary"][measure]
            ratio = f"{found['median'] / own[measure]['median']:.2f}" if measure in own else ""
            cells += [f"{found['median']:.1f}", f"{found['least']:.1f} to {found['most']:.1f}", ratio]
        cells.append(f"{min(row['load']):.1f} to {max(row['load']):.1f}")
        lines.append(row_of(cells))
    return lines
