"""Compares logits with those of dequantised f32 weights on transformers, in float64.

`logit_errors.py GGUF TOKENS NAME=FILE…` prints a JSON object by name: largest and mean absolute error, mean
Kullback-Leibler divergence from the reference, and the share of positions with the same best token.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

path = Path(sys.argv[1])
tokens = [int(token) for token in sys.argv[2].split(",")]
model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
with torch.inference_mode():
    reference = model(torch.tensor([tokens])).logits[0].double().numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


found = {}
for argument in sys.argv[3:]:
    name, _, file = argument.partition("=")
    logits = np.fromfile(file, np.float32).reshape(reference.shape).astype(np.float64)
    expected, actual = log_softmax(reference), log_softmax(logits)
    error = np.abs(logits - reference)
    found[name] = {
        "max": error.max(),
        "mean": error.mean(),
        "kl": (np.exp(expected) * (expected - actual)).sum(axis=-1).mean(),
        "same_best": (logits.argmax(-1) == reference.argmax(-1)).mean(),
    }
print(json.dumps(found))
