"""Gated delta networks: Qwen3-Next, Qwen3.5, OLMo-Hybrid, Kimi Linear.

What a head reads of its state is normalised, however small it is. Epsilons are large, or that would magnify rounding.
"""

import torch

from safetensors_case import family

SMALL = dict(
    vocab_size=67,
    hidden_size=26,
    num_hidden_layers=3,
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    linear_key_head_dim=6,
    linear_value_head_dim=7,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    rms_norm_eps=3e-3,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)
DENSE = SMALL | dict(intermediate_size=20)
EXPERTS = dict(moe_intermediate_size=8, shared_expert_intermediate_size=10, num_experts=4, num_experts_per_tok=2)

TWO_LAYERS = dict(num_hidden_layers=2, layer_types=["full_attention", "linear_attention"])

LASTING = {"A_log": -1.0}
"""Factors of the parameters that make states decay so slowly that a text's beginning shows at its end."""

CALM = LASTING | {"q_norm": 0.2, "k_norm": 0.2, "layernorm": 0.3, "model.norm": 0.3}
"""Factors that also keep down the weights of norms that one is added to, which would magnify rounding."""


def by_interval(config: dict) -> dict:
    """The keys that checkpoints of Qwen3-Next have instead of newer ones."""
    config = {key: value for key, value in config.items() if key not in ("layer_types", "rope_parameters")}
    return config | dict(full_attention_interval=3, partial_rotary_factor=0.75, rope_theta=500.0, rope_scaling=None)


def with_unused(tensors: dict) -> dict:
    """Layers that predict further tokens, and see pictures, beside those of the model."""
    return tensors | {name: torch.ones(3, 5) for name in ("mtp.fc.weight", "model.visual.pos_embed.weight")}


qwen3_next = family("qwen3-next", "Qwen3Next", DENSE | EXPERTS, factors=CALM)
qwen3_5 = family("qwen3-5", "Qwen3_5", DENSE, factors=CALM)
qwen3_5_moe = family("qwen3-5-moe", "Qwen3_5Moe", SMALL | EXPERTS, factors=CALM)

QWEN3_NEXT = [
    qwen3_next("plain", lengths=(13, 7, 1), padding="left"),
    qwen3_next(
        "switches",
        config=dict(
            num_hidden_layers=5,
            layer_types=None,
            decoder_sparse_step=2,
            mlp_only_layers=[3],
            norm_topk_prob=False,
            attention_bias=True,
            hidden_act="gelu",
            linear_conv_kernel_dim=3,
            linear_num_key_heads=3,
            linear_num_value_heads=3,
            tie_word_embeddings=True,
            rms_norm_eps=0.01,
            rope_parameters=dict(rope_type="linear", rope_theta=100.0, partial_rotary_factor=0.5, factor=2.0),
        ),
    ),
    qwen3_next(
        "interval",
        config=dict(
            layer_types=["linear_attention", "linear_attention", "full_attention"],
            rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=0.75),
        ),
        edit_config=by_interval,
        as_in_memory=True,
    ),
    qwen3_next("base", "Model", config=TWO_LAYERS, padding="left"),
    qwen3_next("classifier", "ForSequenceClassification", config=TWO_LAYERS | dict(num_labels=3)),
]

MULTIMODAL = dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5, mrope_section=[1, 1, 0])

QWEN3_5 = [
    qwen3_5("plain", lengths=(11, 5, 1), padding="left"),
    qwen3_5("long", lengths=(71, 66), edit_tensors=with_unused),
    qwen3_5(
        "switches",
        config=dict(
            attention_bias=True,
            hidden_act="gelu_pytorch_tanh",
            linear_conv_kernel_dim=2,
            linear_num_key_heads=4,
            linear_num_value_heads=4,
            tie_word_embeddings=True,
            rms_norm_eps=0.02,
            rope_parameters=MULTIMODAL | dict(mrope_interleaved=True),
        ),
        dtype="bfloat16",
    ),
    qwen3_5("base", "TextModel", config=TWO_LAYERS),
    qwen3_5("classifier", "TextForSequenceClassification", config=TWO_LAYERS | dict(num_labels=3), padding="left"),
    qwen3_5_moe("plain", lengths=(12, 9, 2), padding="left"),
    qwen3_5_moe("stacked", config=dict(num_experts_per_tok=1, attention_bias=True), as_in_memory=True),
    qwen3_5_moe("base", "TextModel", config=TWO_LAYERS),
]

OLMO = dict(
    vocab_size=67,
    hidden_size=28,
    intermediate_size=20,
    num_hidden_layers=3,
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    num_attention_heads=7,
    num_key_value_heads=1,
    linear_key_head_dim=6,
    linear_value_head_dim=7,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)
olmo_hybrid = family("olmo-hybrid", "OlmoHybrid", OLMO, factors=LASTING)

OLMO_HYBRID = [
    olmo_hybrid("plain", lengths=(13, 7, 1), padding="left"),
    olmo_hybrid(
        "switches",
        config=dict(
            layer_types=None,
            linear_key_head_dim=None,
            linear_value_head_dim=None,
            linear_num_key_heads=None,
            linear_num_value_heads=None,
            linear_conv_kernel_dim=3,
            linear_allow_neg_eigval=False,
            attention_bias=True,
            hidden_act="gelu",
            tie_word_embeddings=True,
            rms_norm_eps=0.01,
            rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=2.0),
        ),
    ),
    olmo_hybrid(
        "no-positions",
        config=dict(rope_parameters=dict(rope_type="default", rope_theta=None)),
        lengths=(11, 66),
        as_in_memory=True,
    ),
    olmo_hybrid("base", "Model"),
]

KIMI = dict(
    vocab_size=67,
    hidden_size=26,
    intermediate_size=20,
    num_hidden_layers=3,
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    num_attention_heads=5,
    num_key_value_heads=5,
    kv_lora_rank=11,
    qk_nope_head_dim=6,
    qk_rope_head_dim=3,
    v_head_dim=7,
    linear_head_dim=7,
    linear_num_heads=3,
    moe_intermediate_size=8,
    num_experts=6,
    num_experts_per_tok=3,
    rms_norm_eps=3e-3,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)
kimi_linear = family("kimi-linear", "KimiLinear", KIMI, factors=LASTING)


def by_lists(config: dict) -> dict:
    """The keys that the published checkpoint has instead of newer ones."""
    newer = ("layer_types", "mlp_layer_types", "linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim")
    config = {key: value for key, value in config.items() if key not in newer}
    linear = dict(full_attn_layers=[3], kda_layers=[1, 2], head_dim=5, num_heads=4, short_conv_kernel_size=2)
    older = dict(moe_layer_freq=1, moe_router_activation_func="sigmoid", mla_use_nope=True, rope_theta=10000.0)
    return config | older | dict(linear_attn_config=linear, first_k_dense_replace=2)


KIMI_LINEAR = [
    kimi_linear("plain", lengths=(13, 7, 1), padding="left"),
    kimi_linear(
        "switches",
        config=dict(
            num_hidden_layers=4,
            layer_types=["full_attention", "linear_attention", "full_attention", "linear_attention"],
            mlp_layer_types=["sparse", "dense", "dense", "sparse"],
            q_lora_rank=9,
            attention_bias=True,
            num_experts=8,
            n_group=4,
            topk_group=2,
            n_shared_experts=2,
            norm_topk_prob=False,
            routed_scaling_factor=1.3,
            linear_conv_kernel_dim=3,
            hidden_act="gelu",
            rms_norm_eps=0.02,
        ),
        as_in_memory=True,
    ),
    kimi_linear(
        "lists",
        config=dict(
            layer_types=["linear_attention", "linear_attention", "full_attention"],
            mlp_layer_types=["dense", "dense", "sparse"],
            linear_head_dim=5,
            linear_num_heads=4,
            linear_conv_kernel_dim=2,
        ),
        lengths=(67, 30),
        edit_config=by_lists,
    ),
    kimi_linear("base", "Model"),
]

CASES = QWEN3_NEXT + QWEN3_5 + OLMO_HYBRID + KIMI_LINEAR
