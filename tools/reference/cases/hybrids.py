"""Mamba-2, and the models that mix state spaces with attention: Bamba, Jamba, Granite 4, Falcon-H1, Nemotron-H."""

from safetensors_case import family

TOKENS = dict(vocab_size=67, bos_token_id=None, eos_token_id=None, pad_token_id=0)
HEADS = dict(
    TOKENS,
    hidden_size=24,
    intermediate_size=28,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
BAMBA = dict(mamba_n_heads=6, mamba_d_head="auto", mamba_n_groups=2, mamba_d_state=7, mamba_chunk_size=4)


mamba2 = family(
    "mamba2",
    "Mamba2",
    dict(
        TOKENS,
        hidden_size=30,
        state_size=7,
        num_hidden_layers=2,
        num_heads=6,
        head_dim=10,
        n_groups=2,
        chunk_size=4,
    ),
)
bamba = family("bamba", "Bamba", HEADS | BAMBA | dict(attn_layer_indices=[1]))
jamba = family(
    "jamba",
    "Jamba",
    HEADS
    | dict(
        num_experts=5,
        attn_layer_period=3,
        attn_layer_offset=1,
        mamba_d_state=6,
        mamba_dt_rank=5,
    ),
)
granite = family(
    "granite-hybrid",
    "GraniteMoeHybrid",
    HEADS
    | BAMBA
    | dict(
        num_local_experts=5,
        intermediate_size=18,
        shared_intermediate_size=26,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        attention_multiplier=0.3,
    ),
)
falcon = family("falcon-h1", "FalconH1", HEADS | BAMBA | dict(num_hidden_layers=2, mamba_d_ssm=42))
nemotron = family(
    "nemotron-h",
    "NemotronH",
    dict(
        HEADS,
        head_dim=8,
        layers_block_type=["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
        ssm_state_size=10,
        mamba_num_heads=6,
        mamba_head_dim=9,
        n_groups=2,
        chunk_size=4,
        n_routed_experts=6,
        moe_intermediate_size=14,
        moe_shared_expert_intermediate_size=22,
    ),
)

zamba2 = family(
    "zamba2",
    "Zamba2",
    HEADS
    | dict(
        hidden_size=18,
        intermediate_size=22,
        num_hidden_layers=4,
        num_key_value_heads=6,
        layers_block_type=["hybrid", "linear_attention", "hybrid", "hybrid"],
        n_mamba_heads=6,
        mamba_ngroups=2,
        mamba_d_state=7,
        chunk_size=4,
        adapter_rank=5,
    ),
    # Its scores are divided by less than those of others, so that rounding would show.
    factors={"adapter": 0.5, "q_proj": 0.6},
)
zamba = family(
    "zamba",
    "Zamba",
    HEADS
    | dict(
        hidden_size=18,
        intermediate_size=22,
        num_hidden_layers=4,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
        mamba_d_state=6,
        mamba_dt_rank=5,
    ),
)


def old_granite(config: dict) -> dict:
    """The names that configs of the first Granite 4 have."""
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    return config | {"layer_types": [names[kind] for kind in config["layer_types"]], "position_embedding_type": "nope"}


def old_nemotron(config: dict) -> dict:
    """The pattern and keys that configs of the first Nemotron-H have."""
    letters = {"linear_attention": "M", "moe": "E", "full_attention": "*", "mlp": "-"}
    config = {key: value for key, value in config.items() if "moe" not in key and "expert" not in key}
    config["hybrid_override_pattern"] = "".join(letters[kind] for kind in config.pop("layers_block_type"))
    return config | {"num_hidden_layers": len(config["hybrid_override_pattern"])}


def old_mamba2(config: dict) -> dict:
    """Numbers that JSON lacks, as older versions wrote them."""
    return config | {"time_step_limit": [0.0, float("inf")]}


def backbone(tensors: dict) -> dict:
    """The names that tensors of the first Nemotron-H have."""
    return {name.replace("model.", "backbone.", 1): tensor for name, tensor in tensors.items()}


CASES = [
    mamba2("plain", lengths=(13, 7, 1)),
    mamba2(
        "switches",
        config=dict(
            use_bias=True,
            use_conv_bias=False,
            conv_kernel=3,
            n_groups=3,
            hidden_act="gelu",
            tie_word_embeddings=True,
        ),
        padding="left",
    ),
    mamba2("one-group", config=dict(n_groups=1, layer_norm_epsilon=0.01, expand=3, num_heads=9), edit_config=old_mamba2, padding="left"),
    mamba2("base", "Model", config=dict(time_step_limit=[0.4, 1.1]), padding="left"),
    bamba("plain", lengths=(13, 7, 1)),
    bamba(
        "switches",
        config=dict(
            attention_bias=True,
            mlp_bias=True,
            mamba_proj_bias=True,
            mamba_conv_bias=False,
            mamba_d_conv=3,
            mamba_expand=3,
            mamba_n_heads=9,
            mamba_n_groups=3,
            rms_norm_eps=0.01,
            tie_word_embeddings=True,
        ),
        padding="left",
    ),
    bamba(
        "base",
        "Model",
        config=dict(
            attn_layer_indices=[0, 2],
            mamba_n_groups=1,
            time_step_limit=[0.4, 1.1],
            rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=1.0),
        ),
        padding="left",
    ),
    jamba("plain", lengths=(13, 7, 1)),
    jamba(
        "switches",
        config=dict(
            mamba_proj_bias=True,
            mamba_conv_bias=False,
            mamba_d_conv=3,
            mamba_expand=3,
            expert_layer_period=3,
            expert_layer_offset=0,
            num_experts_per_tok=3,
            tie_word_embeddings=True,
            rms_norm_eps=0.01,
        ),
        padding="left",
    ),
    jamba("dense", config=dict(num_experts=1, num_hidden_layers=2), padding="left"),
    jamba("classes", "ForSequenceClassification", config=dict(num_labels=3), padding="left"),
    jamba("base", "Model", config=dict(num_hidden_layers=2), padding="left"),
    granite("plain", lengths=(13, 7, 1)),
    granite(
        "switches",
        config=dict(
            position_embedding_type="rope",
            attention_bias=True,
            embedding_multiplier=1.5,
            logits_scaling=0.5,
            residual_multiplier=0.7,
            mamba_proj_bias=True,
            mamba_conv_bias=False,
            mamba_n_groups=1,
            num_experts_per_tok=3,
            tie_word_embeddings=True,
        ),
        padding="left",
    ),
    granite("dense", config=dict(num_local_experts=0), edit_config=old_granite, padding="left"),
    granite("base", "Model", config=dict(time_step_limit=[0.4, 1.1]), padding="left"),
    falcon("plain", lengths=(13, 7, 1)),
    falcon(
        "factors",
        config=dict(
            mamba_rms_norm=True,
            mamba_norm_before_gate=False,
            embedding_multiplier=1.5,
            lm_head_multiplier=1.7,
            mlp_multipliers=[0.8, 1.3],
            key_multiplier=0.7,
            attention_in_multiplier=1.2,
            attention_out_multiplier=0.9,
            ssm_multipliers=[0.8, 1.2, 1.4, 0.7, 1.1],
            ssm_in_multiplier=1.25,
            ssm_out_multiplier=0.6,
            rope_parameters=dict(rope_type="default", rope_theta=500.0),
        ),
        padding="left",
    ),
    falcon(
        "switches",
        config=dict(
            mamba_rms_norm=True,
            mamba_norm_before_gate=True,
            mamba_d_ssm=None,
            attention_bias=True,
            mlp_bias=True,
            mlp_multipliers=[1.2, 0.9],
            projectors_bias=True,
            mamba_proj_bias=True,
            mamba_conv_bias=False,
            ssm_in_multiplier=0.8,
            tie_word_embeddings=True,
        ),
        padding="left",
    ),
    falcon("base", "Model", config=dict(mamba_n_groups=1, time_step_limit=[0.4, 1.1]), padding="left"),
    nemotron("plain", lengths=(13, 7, 1)),
    nemotron(
        "switches",
        config=dict(
            use_bias=True,
            mlp_bias=True,
            use_conv_bias=False,
            conv_kernel=3,
            mlp_hidden_act="silu",
            moe_latent_size=16,
            n_group=3,
            topk_group=2,
            norm_topk_prob=False,
            routed_scaling_factor=1.5,
            num_experts_per_tok=3,
        ),
        padding="left",
    ),
    nemotron(
        "older",
        config=dict(layers_block_type=["linear_attention", "mlp", "full_attention", "mlp"]),
        edit_config=old_nemotron, edit_tensors=backbone, padding="left",
    ),
    nemotron("base", "Model", config=dict(time_step_min=0.5), padding="left"),
    zamba2("plain", config=dict(use_shared_attention_adapter=True), lengths=(13, 7, 1)),
    zamba2(
        "switches",
        config=dict(
            num_mem_blocks=2,
            num_key_value_heads=2,
            add_bias_linear=True,
            use_mem_rope=True,
            use_long_context=True,
            mamba_ngroups=1,
            mamba_d_conv=3,
            hidden_act="silu",
            tie_word_embeddings=False,
        ),
        padding="left",
    ),
    zamba2(
        "classes",
        "ForSequenceClassification",
        config=dict(num_labels=3, num_mem_blocks=2, use_shared_attention_adapter=True),
        padding="left",
    ),
    zamba2("base", "Model", config=dict(time_step_min=0.5), padding="left"),
    zamba("plain", lengths=(13, 7, 1)),
    zamba(
        "switches",
        config=dict(
            n_mamba_heads=3,
            mamba_proj_bias=True,
            mamba_conv_bias=False,
            mamba_d_conv=3,
            hidden_mamba_act="gelu",
            tie_word_embeddings=False,
        ),
        padding="left",
    ),
    zamba("classes", "ForSequenceClassification", config=dict(num_labels=3), padding="left"),
    zamba("base", "Model", config=dict(layers_block_type=None, num_hidden_layers=5, attn_layer_period=2, attn_layer_offset=1), padding="left"),
]
