"""When a drawn model makes a good reference."""

import numpy as np

SMALLEST_SPREAD = 1.0
SMALLEST_VOCABULARY_SPREAD = 4.0
SMALLEST_GREEDY_MARGIN = 1e-2
SMALLEST_BEAM_MARGIN = 5e-3


class Unsuitable(Exception):
    """The drawn weights make a reference that rounding could change, or that shows too little."""


def check_outputs(outputs: dict[str, np.ndarray], mask: np.ndarray, generates: bool) -> None:
    """Raise unless every value is finite and the logits of every real token spread."""
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise Unsuitable(f"{name} is not finite")
    logits = outputs.get("logits")
    if logits is None:
        return
    rows = logits[mask.astype(bool)] if logits.ndim == 3 else logits
    smallest = SMALLEST_VOCABULARY_SPREAD if generates else SMALLEST_SPREAD
    if np.ptp(rows, axis=-1).min() < smallest:
        raise Unsuitable("the logits hardly differ")


def check_generated(entries: list[dict]) -> None:
    """Raise if beam search finds what greedy search finds for every prompt."""
    if all(entry["greedy"] == entry.get("beam4") for entry in entries):
        raise Unsuitable("beam search finds what greedy search finds")


def check_varied(new_tokens: list[int], fewest: int) -> None:
    """Raise if a text repeats itself so much that a broken cache would not show."""
    if len(set(new_tokens)) < fewest:
        raise Unsuitable("the text repeats itself")
