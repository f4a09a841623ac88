"""Draws time against length from the results of `run.py --workloads recurrence`: `plot.py cpu.json > recurrence.svg`.

Both axes are logarithmic: the prompt's time is linear in its length if its points lie on a line of slope 1, which is
drawn behind them, and the time of a token constant if its points lie on a level one.
"""

import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP = 560, 300, 56, 16
SERIES = (("prompt, ms", 1, "#1f5fa8"), ("a token after it, ms", 3, "#b5541c"))


def number(cell: str) -> float:
    """A cell of the table."""
    return float(cell.replace(",", ""))


def main() -> None:
    """The points of both series, lines behind them, axes with powers of ten."""
    cells = json.loads(Path(sys.argv[1]).read_text())["more"]["recurrence"]["cells"]
    lengths = [number(cell[0]) for cell in cells]
    values = [number(cell[column]) for _, column, _ in SERIES for cell in cells]
    bounds = [(min(of), max(of)) for of in (lengths, values)]
    (x0, x1), (y0, y1) = ((math.floor(math.log10(low)), math.ceil(math.log10(high))) for low, high in bounds)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (math.log10(x) - x0) / (x1 - x0) * (WIDTH - LEFT - 16)
        return across, HEIGHT - 40 - (math.log10(y) - y0) / (y1 - y0) * (HEIGHT - 40 - TOP)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    for power in range(x0, x1 + 1):
        x, y = place(10**power, 10**y0)
        parts.append(f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{10**power:,}</text>')
        parts.append(f'<path d="M{x:.0f} {TOP}V{y:.0f}" stroke="#ddd"/>')
    for power in range(y0, y1 + 1):
        x, y = place(10**x0, 10**power)
        label = f"{10**power:,}" if power >= 0 else str(10.0**power)
        parts.append(f'<text x="{x - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{label}</text>')
        parts.append(f'<path d="M{x:.0f} {y:.0f}H{WIDTH - 16}" stroke="#ddd"/>')
    for (name, column, colour), slope in zip(SERIES, (1, 0), strict=True):
        points = [(length, number(cell[column])) for length, cell in zip(lengths, cells, strict=True)]
        middle = points[len(points) // 2]
        ends = [place(x, middle[1] * (x / middle[0]) ** slope) for x in (lengths[0], lengths[-1])]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in ends)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-dasharray="4 3" fill="none"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in (place(*p) for p in points)]
        x, y = place(lengths[0], points[0][1])
        parts.append(f'<text x="{x + 8:.0f}" y="{y - 8:.0f}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">tokens</text></svg>')
    print("\n".join(parts))


main()
