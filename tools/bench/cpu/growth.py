"""Time and memory against the length of the prompt."""

from typing import Any

from models import SMOLLM2
from peer import Peer, Unavailable
from rounds import tell
from workloads import Generation

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
NEW = 2


def growth(peers: list[Peer], quick: bool) -> dict[str, Any]:
    """A line for each length; memory is the peak of a process, so that its difference is what length costs."""
    lengths = LENGTHS[: 4 if quick else None]
    cache = 2 * SMOLLM2.layers * SMOLLM2.kv_heads * SMOLLM2.head_dim * 4 / 1e6
    columns = ["prompt", *(f"{peer.name}: {what}" for peer in peers for what in ("prompt, ms", "peak RSS, MB"))]
    columns.append("caches in f32, MB")
    cells = []
    for length in lengths:
        # The positions of the model end at the last length, which the new tokens are a part of.
        prompt = min(length, SMOLLM2.positions - NEW)
        line = [str(prompt)]
        for peer in peers:
            tell(f"growth: {prompt} tokens, {peer.name}")
            try:
                found = peer.measure(Generation("SmolLM2-135M", SMOLLM2, "Q4_1", prompt, NEW), 1)
                line += [f"{found['prompt_ms'][0]:.0f}", f"{found['peak_rss_mb'][0]:.0f}"]
            except Unavailable as error:
                line += [str(error), ""]
        cells.append([*line, f"{cache * prompt:.1f}"])
    return {"title": "Growth with the prompt: SmolLM2-135M, Q4_1", "columns": columns, "cells": cells}
