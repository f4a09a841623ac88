"""Tables in Markdown, measurements in JSON."""

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, about: dict[str, Any], tables: list[dict[str, Any]]) -> None:
    """Everything that was measured, run by run."""
    path.write_text(json.dumps(about | {"tables": tables}, indent=2) + "\n")


def row_of(cells: list[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
