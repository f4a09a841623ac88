"""LLaMA: head layouts, rotary scalings in both config styles, tying, biases, dtypes."""

import torch

from case import Config
from safetensors_case import SafetensorsCase, Tensors
from samples import stopping_text
from vocabularies import BYTE_LEVEL_SIZE, byte_level, byte_level_files

SMALL = dict(
    vocab_size=67,
    hidden_size=30,
    intermediate_size=36,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
)

STOP_ID = 2

YARN = dict(rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=16)


def llama(name: str, model: str = "LlamaForCausalLM", **fields) -> SafetensorsCase:
    """A LLaMA case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def rope(name: str, parameters: Config, **fields) -> SafetensorsCase:
    """A LLaMA case about its rotary embedding, with heads wide enough for several frequencies."""
    config = dict(num_attention_heads=3, num_key_value_heads=1, head_dim=16, rope_parameters=parameters)
    return llama(f"llama-rope-{name}", config=config | fields.pop("config", {}), **fields)


def older_config(type_key: str):
    """The edit to version 4's keys: `rope_theta`, and `rope_scaling` whose kind is under `type_key`."""

    def edit(config: Config) -> Config:
        scaling = dict(config.pop("rope_parameters"))
        config["rope_theta"] = scaling.pop("rope_theta")
        kind = scaling.pop("rope_type")
        if scaling.get("original_max_position_embeddings") == config["max_position_embeddings"]:
            del scaling["original_max_position_embeddings"]
        config["rope_scaling"] = None if kind == "default" else scaling | {type_key: kind}
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.36.0"
        del config["mlp_bias"], config["head_dim"]
        return config

    return edit


def without_rope_keys(config: Config) -> Config:
    """The first LLaMA uploads' config: no rotary key at all, no key-value heads."""
    for key in ("rope_parameters", "num_key_value_heads", "head_dim", "attention_bias", "mlp_bias", "dtype"):
        del config[key]
    return config | {"torch_dtype": "float32", "transformers_version": "4.28.0.dev0"}


def with_inverse_frequencies(tensors: Tensors) -> Tensors:
    """The rotary buffers that version 4 stored in every layer."""
    layers = {name.split(".")[2] for name in tensors if name.startswith("model.layers.")}
    buffers = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(3) for layer in sorted(layers)}
    return tensors | buffers


def with_other_head(tensors: Tensors) -> Tensors:
    """A head beside the embedding it is said to be tied to, with other values."""
    return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].flip(0).contiguous()}


def with_head_only(tensors: Tensors) -> Tensors:
    """The one tied matrix stored under the head's name."""
    return {name.replace("model.embed_tokens", "lm_head"): tensor for name, tensor in tensors.items()}


def with_frequent_stop(tensors: Tensors) -> Tensors:
    """A head that chooses the end token more often than others."""
    head = tensors["lm_head.weight"].clone()
    head[STOP_ID] *= 1.6
    return tensors | {"lm_head.weight": head}


CASES = [
    llama("llama-gqa", config=dict(hidden_size=60, head_dim=10, intermediate_size=88)),
    llama("llama-mqa", config=dict(num_key_value_heads=1), padding="left"),
    llama("llama-mha", config=dict(hidden_size=36, num_key_value_heads=6, head_dim=None, num_hidden_layers=3)),
    llama("llama-head-dim", config=dict(hidden_size=42, head_dim=14), lengths=(13, 1)),
    llama("llama-tied", config=dict(tie_word_embeddings=True), padding="left"),
    llama("llama-tied-but-both-stored", config=dict(tie_word_embeddings=True), edit_tensors=with_other_head),
    llama("llama-tied-head-stored", config=dict(tie_word_embeddings=True), edit_tensors=with_head_only),
    llama("llama-biases", config=dict(attention_bias=True, mlp_bias=True, rms_norm_eps=0.02)),
    llama("llama-gelu", config=dict(hidden_act="gelu")),
    llama("llama-gelu-tanh", config=dict(hidden_act="gelu_pytorch_tanh")),
    llama("llama-f16", dtype="float16"),
    llama("llama-bf16", dtype="bfloat16", padding="left"),
    llama("llama-sharded", shard_bytes=40_000),
    llama("llama-base", "LlamaModel"),
    llama(
        "llama-first-config",
        config=dict(hidden_size=36, num_key_value_heads=6, head_dim=None),
        edit_config=without_rope_keys,
        edit_tensors=with_inverse_frequencies,
    ),
    llama(
        "llama-chat",
        config=dict(
            vocab_size=BYTE_LEVEL_SIZE,
            max_position_embeddings=128,
            bos_token_id=1,
            eos_token_id=STOP_ID,
            pad_token_id=0,
        ),
        edit_tensors=with_frequent_stop,
        extra_files=byte_level_files(),
        tokenizer=byte_level,
        samples=stopping_text,
        lengths=(7, 4),
    ),
    rope("theta", dict(rope_type="default", rope_theta=500.0), padding="left"),
    rope("linear", dict(rope_type="linear", rope_theta=100.0, factor=3.0)),
    rope(
        "dynamic",
        dict(rope_type="dynamic", rope_theta=100.0, factor=2.0),
        config=dict(max_position_embeddings=16),
        lengths=(23, 19, 9),
    ),
    rope(
        "llama3",
        dict(
            rope_type="llama3",
            rope_theta=500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
        padding="left",
    ),
    rope("yarn", YARN),
    rope("yarn-attention-factor", YARN | dict(attention_factor=0.7)),
    rope("yarn-betas", YARN | dict(beta_fast=1.5, beta_slow=0.4, original_max_position_embeddings=32)),
    rope(
        "yarn-untruncated",
        YARN | dict(beta_fast=4.0, beta_slow=0.5, original_max_position_embeddings=32, truncate=False),
        padding="left",
    ),
    rope("yarn-mscale", YARN | dict(mscale=0.707, mscale_all_dim=1.3)),
    rope(
        "older-default",
        dict(rope_type="default", rope_theta=300.0),
        config=dict(hidden_size=36, head_dim=None),
        edit_config=older_config("type"),
        edit_tensors=with_inverse_frequencies,
    ),
    rope(
        "older-linear",
        dict(rope_type="linear", rope_theta=100.0, factor=3.0),
        config=dict(hidden_size=36, head_dim=None),
        edit_config=older_config("type"),
    ),
    rope(
        "older-dynamic",
        dict(rope_type="dynamic", rope_theta=100.0, factor=2.0),
        config=dict(hidden_size=36, head_dim=None, max_position_embeddings=16),
        edit_config=older_config("type"),
        lengths=(17, 23),
        padding="left",
    ),
    rope(
        "older-llama3",
        dict(
            rope_type="llama3",
            rope_theta=500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
        config=dict(hidden_size=36, head_dim=None),
        edit_config=older_config("rope_type"),
    ),
    rope(
        "older-yarn",
        dict(rope_type="yarn", rope_theta=50.0, factor=4.0),
        config=dict(hidden_size=36, head_dim=None),
        edit_config=older_config("type"),
    ),
]
