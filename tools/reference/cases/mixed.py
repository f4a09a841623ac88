"""Models that mix tokens in two ways: LFM2 and LFM2-MoE."""

from safetensors_case import SafetensorsCase

SMALL = dict(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    bos_token_id=None,
    eos_token_id=None,
)


def family(prefix: str, stem: str, **sizes):
    """Makes the cases of one family: model classes begin with `stem`."""

    def make(name: str, head: str = "ForCausalLM", **fields) -> SafetensorsCase:
        config = SMALL | sizes | fields.pop("config", {})
        return SafetensorsCase(name=f"{prefix}-{name}", model=stem + head, config=config, **fields)

    return make


CONV, FULL = "conv", "full_attention"

lfm2 = family("lfm2", "Lfm2", intermediate_size=36, block_multiple_of=10, layer_types=[CONV, CONV, FULL])
lfm2_moe = family(
    "lfm2-moe",
    "Lfm2Moe",
    intermediate_size=20,
    moe_intermediate_size=14,
    num_dense_layers=1,
    num_experts=5,
    num_experts_per_tok=2,
    layer_types=[CONV, FULL, CONV],
)


def as_published(config: dict) -> dict:
    """The keys of the first published checkpoints."""
    config = {key: value for key, value in config.items() if key not in ("layer_types", "rope_parameters")}
    width = config.pop("intermediate_size")
    tie = config.pop("tie_word_embeddings")
    return config | dict(
        block_ff_dim=width,
        block_use_swiglu=True,
        full_attn_idxs=[1],
        rope_theta=5000.0,
        tie_embedding=tie,
        use_pos_enc=True,
    )


CASES = [
    lfm2("plain", lengths=(13, 7, 1)),
    lfm2(
        "switches",
        config=dict(conv_bias=True, conv_L_cache=4, norm_eps=0.01, tie_word_embeddings=False, block_ffn_dim_multiplier=1.3),
        padding="left",
    ),
    lfm2(
        "published",
        config=dict(
            layer_types=[CONV, FULL, CONV], rope_parameters=dict(rope_type="default", rope_theta=5000.0), conv_L_cache=2
        ),
        edit_config=as_published,
    ),
    lfm2(
        "base",
        "Model",
        config=dict(block_auto_adjust_ff_dim=False, layer_types=[FULL, CONV, CONV], conv_L_cache=1),
        padding="left",
    ),
    lfm2_moe("plain", lengths=(9, 13, 2)),
    lfm2_moe(
        "switches",
        config=dict(
            use_expert_bias=False,
            norm_topk_prob=False,
            routed_scaling_factor=1.7,
            num_dense_layers=0,
            conv_bias=True,
            tie_word_embeddings=False,
        ),
        padding="left",
    ),
    lfm2_moe("base", "Model", config=dict(num_dense_layers=2), padding="left", as_in_memory=True),
]
