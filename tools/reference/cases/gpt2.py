"""GPT-2: attention scaling switches, activations, and the names of the first upload."""

import torch

from case import Config
from safetensors_case import SafetensorsCase, Tensors

SMALL = dict(
    vocab_size=67,
    n_embd=32,
    n_head=4,
    n_layer=2,
    n_inner=52,
    n_positions=37,
    bos_token_id=None,
    eos_token_id=None,
)


def gpt2(name: str, model: str = "GPT2LMHeadModel", **fields) -> SafetensorsCase:
    """A GPT-2 case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def first_config(config: Config) -> Config:
    """The keys that the first upload has, and none that came later."""
    later = (
        "add_cross_attention",
        "dtype",
        "reorder_and_upcast_attn",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
        "tie_word_embeddings",
        "use_cache",
        "n_inner",
        "transformers_version",
    )
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {
        "n_ctx": config["n_positions"],
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    }


def first_tensors(tensors: Tensors) -> Tensors:
    """Names without `transformer.`, and each layer's causal mask stored as buffers."""
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    positions = len(bare["wpe.weight"])
    layers = {name.split(".")[1] for name in bare if name.startswith("h.")}
    for layer in sorted(layers):
        bare[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, positions, positions))
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return bare


CASES = [
    gpt2("gpt2", config=dict(n_embd=48, n_head=3, n_inner=None)),
    gpt2("gpt2-left-padded", config=dict(n_layer=3, activation_function="gelu"), padding="left"),
    gpt2("gpt2-untied", config=dict(tie_word_embeddings=False)),
    gpt2("gpt2-unscaled-attention", config=dict(scale_attn_weights=False)),
    gpt2(
        "gpt2-layer-scaled-attention",
        config=dict(n_layer=3, tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True),
    ),
    gpt2("gpt2-reordered-attention", config=dict(reorder_and_upcast_attn=True), padding="left"),
    gpt2("gpt2-relu", config=dict(activation_function="relu", layer_norm_epsilon=0.02)),
    gpt2("gpt2-base", "GPT2Model"),
    gpt2("gpt2-f16", dtype="float16"),
    gpt2("gpt2-odd-sizes", config=dict(vocab_size=97, n_embd=42, n_head=3, n_inner=65), lengths=(13, 1)),
    gpt2("gpt2-old-names", config=dict(n_inner=None), edit_config=first_config, edit_tensors=first_tensors),
]
