"""Random weights that make every parameter matter.

Transformers initialises biases to 0, norms to 1 and matrices so small that attention is uniform; a
fixture made from that would hide a missing bias, norm or rotary embedding. Embeddings are smaller than
what the layers add, or a tied head would choose the token just read again and again.
"""

import numpy as np
import torch

EMBEDDING_GAIN = 1.6
POSITION_STD = 0.8
BUCKET_STD = 1.0
BIAS_STD = 0.2
NORM_RANGE = (0.5, 1.5)
QUERY_KEY_GAIN = 1.5
HEAD_GAIN = 3.0

EMBEDDINGS = ("embed", "wte", "shared.weight")
POSITIONS = ("position_embeddings", "wpe", "embed_positions")
BUCKETS = "relative_attention_bias"
SCORES_BIAS = "final_logits_bias"
HEADS = ("lm_head", "predictions.decoder", "decoder.weight", "classifier", "qa_outputs", "classification_head", "score")
QUERY_KEY = ("q_proj", "k_proj", "query", "key", "c_attn", "Attention.q", "Attention.k")
CORRECTIONS = ("e_score_correction_bias", "expert_bias")
CONV1D = ("c_attn", "c_proj", "c_fc")


def randomise(model: torch.nn.Module, generator: np.random.Generator, factors: dict[str, float]) -> None:
    """Draw every parameter of `model` anew, what routers add to scores, and the bias of its scores, by name.

    `factors` multiply the parameters whose names hold a part.
    """
    drawn = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    drawn += [item for item in model.named_buffers() if item[0].endswith((*CORRECTIONS, SCORES_BIAS))]
    for name, tensor in sorted(drawn, key=lambda pair: pair[0]):
        factor = np.prod([factor for part, factor in factors.items() if part in name])
        values = draw(name, tuple(tensor.shape), generator) * factor
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values))


def draw(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Values for the parameter `name`: scaled so that activations keep unit size."""
    if len(shape) == 1 and name.endswith("bias"):
        return generator.normal(0.0, BIAS_STD, shape)
    if len(shape) == 1 or "norm" in name:
        return generator.uniform(*NORM_RANGE, shape)
    if name == SCORES_BIAS:
        return generator.normal(0.0, BIAS_STD, shape)
    if BUCKETS in name:
        return generator.normal(0.0, BUCKET_STD, shape)
    if any(part in name for part in POSITIONS):
        return generator.normal(0.0, POSITION_STD, shape)
    if any(part in name for part in EMBEDDINGS):
        return generator.normal(0.0, EMBEDDING_GAIN / np.sqrt(shape[1]), shape)
    return generator.normal(0.0, gain(name) / np.sqrt(fan_in(name, shape)), shape)


def fan_in(name: str, shape: tuple[int, ...]) -> int:
    """The number of inputs of a linear layer; GPT-2's `Conv1D` stores `[in, out]`."""
    return shape[0] if any(part in name for part in CONV1D) else shape[-1]


def gain(name: str) -> float:
    """How much larger than its input's standard deviation a layer's output is."""
    if any(part in name for part in HEADS):
        return HEAD_GAIN
    if any(part in name for part in QUERY_KEY):
        return QUERY_KEY_GAIN
    return 1.0
