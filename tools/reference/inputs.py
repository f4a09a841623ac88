"""Padded batches and prompts of random token ids."""

import numpy as np

from case import Case

PROMPT_LENGTHS = (1, 5, 13)
SPECIAL_TOKENS = 5


def batch(case: Case, vocab_size: int, token_types: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """`input_ids`, `attention_mask` and, if the case asks, `token_type_ids`, all I64 `[rows, longest]`."""
    rows, longest = len(case.lengths), max(case.lengths)
    mask = np.zeros((rows, longest), np.int64)
    for row, length in enumerate(case.lengths):
        real = slice(0, length) if case.padding == "right" else slice(longest - length, longest)
        mask[row, real] = 1
    ids = np.stack([tokens(longest, vocab_size, generator) for _ in range(rows)])
    inputs = {"input_ids": np.where(mask, ids, case.pad), "attention_mask": mask}
    if case.token_types:
        inputs["token_type_ids"] = generator.integers(0, token_types, ids.shape) * mask
    if case.pads_inside:
        inputs["input_ids"][0, 2] = case.pad
    if case.choices:
        inputs = {name: value.reshape(-1, case.choices, longest) for name, value in inputs.items()}
    return inputs


def prompts(vocab_size: int, generator: np.random.Generator) -> list[list[int]]:
    """One prompt of each length."""
    return [tokens(length, vocab_size, generator).tolist() for length in PROMPT_LENGTHS]


def tokens(count: int, vocab_size: int, generator: np.random.Generator) -> np.ndarray:
    """`count` ids that are not special."""
    return generator.integers(SPECIAL_TOKENS, vocab_size, count)
