"""What a batch of texts of unequal lengths costs, beside equal rows of as many tokens."""

from statistics import median
from typing import Any

from models import BERT_BASE, MINILM
from peer import Peer, Unavailable
from rounds import tell
from workloads import UNEQUAL, Encoding

BATCHES = ((128, 16, 16, 16), UNEQUAL)


def padding(peers: list[Peer], quick: bool) -> dict[str, Any]:
    """A line for each model and batch; both batches take turns."""
    columns = ["model", "lengths", *(f"{peer.name}: {what}" for peer in peers for what in ("ms", "equal rows", "ratio"))]
    cells = []
    for model, sizes in (("MiniLM-L6", MINILM), ("BERT-base", BERT_BASE)):
        for lengths in BATCHES:
            equal = (sum(lengths) // len(lengths),) * len(lengths)
            line = [model, ", ".join(map(str, lengths))]
            for peer in peers:
                tell(f"padding: {model}, {lengths}, {peer.name}")
                line += compare(peer, [Encoding(model, sizes, lengths), Encoding(model, sizes, equal)], quick)
            cells.append(line)
    return {"title": "Batches of unequal lengths, and equal rows of as many tokens", "columns": columns, "cells": cells}


def compare(peer: Peer, batches: list[Encoding], quick: bool) -> list[str]:
    """Medians of both, and their ratio."""
    times: list[list[float]] = [[], []]
    try:
        for _ in range(1 if quick else 3):
            for batch, found in zip(batches, times, strict=True):
                found += peer.measure(batch, 3)["batch_ms"]
    except Unavailable as error:
        return [str(error), "", ""]
    unequal, equal = (median(found) for found in times)
    return [f"{unequal:.1f}", f"{equal:.1f}", f"{unequal / equal:.2f}"]
