"""Padded batches and prompts of random token ids."""

import numpy as np

from case import Case

PROMPT_LENGTHS = (1, 5, 13)
SPECIAL_TOKENS = 5


def batch(case: Case, vocab_size: int, token_types: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """`input_ids`, `attention_mask` and, if the case asks, `token_type_ids` and the decoder's ids and mask.

    All are I64 `[rows, longest]`, or `[texts, choices, longest]`.
    """
    ids, mask = padded(case, case.lengths, case.padding, vocab_size, generator)
    if case.last_token is not None:
        for row, real in enumerate(mask):
            ids[row, np.flatnonzero(real)[-1]] = case.last_token
    inputs = {"input_ids": ids, "attention_mask": mask}
    if case.token_types:
        inputs["token_type_ids"] = generator.integers(0, token_types, ids.shape) * mask
    if case.pads_inside:
        inputs["input_ids"][0, 2] = case.pad
    if case.choices:
        inputs = {name: value.reshape(-1, case.choices, ids.shape[1]) for name, value in inputs.items()}
    if case.decoder_lengths:
        ids, mask = padded(case, case.decoder_lengths, case.decoder_padding, vocab_size, generator)
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    return inputs


def padded(
    case: Case, lengths: tuple[int, ...], side: str, vocab_size: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of so many ids, the case's padding where they are shorter than the longest, and their mask."""
    rows, longest = len(lengths), max(lengths)
    mask = np.zeros((rows, longest), np.int64)
    for row, length in enumerate(lengths):
        real = slice(0, length) if side == "right" else slice(longest - length, longest)
        mask[row, real] = 1
    ids = np.stack([tokens(longest, vocab_size, generator) for _ in range(rows)])
    return np.where(mask, ids, case.pad), mask


def prompts(vocab_size: int, generator: np.random.Generator) -> list[list[int]]:
    """One prompt of each length."""
    return [tokens(length, vocab_size, generator).tolist() for length in PROMPT_LENGTHS]


def tokens(count: int, vocab_size: int, generator: np.random.Generator) -> np.ndarray:
    """`count` ids that are not special."""
    return generator.integers(SPECIAL_TOKENS, vocab_size, count)
