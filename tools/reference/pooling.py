"""The poolings of sentence-transformers, on `hidden [rows, length, width]` and `mask [rows, length]`."""

import numpy as np


def cls(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The first token."""
    return hidden[:, 0]


def largest(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The maximum over real tokens."""
    return np.where(mask[:, :, None] == 1, hidden, np.float32(-1e9)).max(axis=1)


def mean(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean over real tokens."""
    return weighted(hidden, mask.astype(np.float32))


def mean_sqrt_len(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The sum of real tokens over the root of their number."""
    return mean(hidden, mask) * np.sqrt(mask.sum(axis=1, keepdims=True, dtype=np.float32))


def weighted_mean(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean over real tokens, each weighted by its place, counted from 1."""
    return weighted(hidden, (mask * np.arange(1, mask.shape[1] + 1)).astype(np.float32))


def last(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The last real token."""
    places = (mask * np.arange(mask.shape[1])).max(axis=1)
    return hidden[np.arange(len(hidden)), places]


def weighted(hidden: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean with weights for each token."""
    sums = (hidden * weights[:, :, None]).sum(axis=1)
    return sums / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to unit length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def mean_pool_normalised(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean over real tokens, scaled to unit length."""
    return unit(mean(hidden, mask))
