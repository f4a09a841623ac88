"""NomicBERT: transformers' names and keys, and those of published checkpoints."""

import torch

from case import Config
from pooling import mean_pool_normalised
from safetensors_case import SafetensorsCase, Tensors
from sentence import sentence_files

SMALL = dict(
    vocab_size=67,
    hidden_size=24,
    intermediate_size=37,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=48,
)
NAMES = {
    "layers.": "encoder.layers.",
    "embeddings.LayerNorm": "emb_ln",
    "self_attn.o_proj": "attn.out_proj",
    "up_proj": "fc11",
    "gate_proj": "fc12",
    "down_proj": "fc2",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
}


def nomic(name: str, model: str = "NomicBertModel", **fields) -> SafetensorsCase:
    """A NomicBERT case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, token_types=True, **fields)


def published_config(config: Config) -> Config:
    """The keys of `nomic-embed-text-v1.5`."""
    return {
        "activation_function": "swiglu",
        "architectures": config["architectures"],
        "attn_pdrop": 0.0,
        "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "bos_token_id": None,
        "causal": False,
        "dense_seq_output": True,
        "embd_pdrop": 0.0,
        "eos_token_id": None,
        "fused_bias_fc": True,
        "fused_dropout_add_ln": True,
        "initializer_range": 0.02,
        "layer_norm_epsilon": config["layer_norm_eps"],
        "max_trained_positions": config["max_position_embeddings"],
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "model_type": "nomic_bert",
        "n_embd": config["hidden_size"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "n_layer": config["num_hidden_layers"],
        "n_positions": 8192,
        "pad_vocab_size_multiple": 1,
        "parallel_block": False,
        "parallel_block_tied_norm": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": config["rope_parameters"].get("factor"),
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "summary_activation": None,
        "summary_first_dropout": 0.0,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "torch_dtype": "float32",
        "transformers_version": "4.37.2",
        "type_vocab_size": config["type_vocab_size"],
        "use_cache": True,
        "use_flash_attn": True,
        "use_rms_norm": False,
        "use_xentropy": True,
        "vocab_size": config["vocab_size"],
    }


def published_tensors(tensors: Tensors) -> Tensors:
    """The names of published checkpoints, where one matrix holds queries, keys and values."""
    renamed = {}
    for name, tensor in tensors.items():
        if ".k_proj" in name or ".v_proj" in name:
            continue
        if ".q_proj" in name:
            parts = [tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            renamed[published(name.replace("self_attn.q_proj", "attn.Wqkv"))] = torch.cat(parts)
        else:
            renamed[published(name)] = tensor
    return renamed


def published(name: str) -> str:
    """A name with transformers' parts replaced."""
    for own, other in NAMES.items():
        name = name.replace(own, other)
    return name


PUBLISHED = dict(edit_config=published_config, edit_tensors=published_tensors, own_config=True)

CASES = [
    nomic("nomic-bert-base", padding="left"),
    nomic("nomic-bert-head-dim", config=dict(head_dim=10, type_vocab_size=3, hidden_act="gelu", layer_norm_eps=0.02)),
    nomic("nomic-bert-masked-lm", "NomicBertForMaskedLM"),
    nomic(
        "nomic-bert-rope-theta",
        "NomicBertForMaskedLM",
        config=dict(rope_parameters={"rope_type": "default", "rope_theta": 60.0}, tie_word_embeddings=False),
    ),
    nomic("nomic-bert-sequence-classification", "NomicBertForSequenceClassification", config=dict(num_labels=3)),
    nomic("nomic-bert-token-classification", "NomicBertForTokenClassification", config=dict(num_labels=5)),
    nomic("nomic-bert-published", **PUBLISHED),
    nomic(
        "nomic-bert-published-long",
        config=dict(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000.0}),
        lengths=(71, 71),
        **PUBLISHED,
    ),
    nomic(
        "nomic-bert-published-sentence",
        sentence_embedding=mean_pool_normalised,
        extra_files=sentence_files(SMALL["hidden_size"], "mean_tokens"),
        **PUBLISHED,
    ),
]
