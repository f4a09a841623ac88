"""Time and memory of a recurrent model against the length of what it has read."""

from typing import Any

from models import MAMBA
from peer import Peer
from rounds import tell
from workloads import Generation

LENGTHS = (100, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 100_000)
NEW = 64


def recurrence(peers: list[Peer], quick: bool) -> dict[str, Any]:
    """A line for each length: reading it, and the tokens that follow it."""
    lengths = LENGTHS[: 4 if quick else None]
    columns = ["tokens", "prompt, ms", "ms per 1,000 tokens", "decode, ms per token", "peak RSS, MB"]
    cells = []
    for length in lengths:
        for peer in peers:
            tell(f"recurrence: {length} tokens, {peer.name}")
            found = peer.measure(Generation("Mamba-130M", MAMBA, "f32", length, NEW), 1)
            prompt, token, memory = (found[measure][0] for measure in ("prompt_ms", "token_ms", "peak_rss_mb"))
            cells.append([f"{length:,}", f"{prompt:.0f}", f"{prompt / length * 1e3:.0f}", f"{token:.2f}", f"{memory:.0f}"])
    return {"title": "Mamba-130M, f32: linear in what is read, constant in what is remembered", "columns": columns, "cells": cells}
