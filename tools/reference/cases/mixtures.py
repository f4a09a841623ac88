"""Mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, DeepSeek-V2 and V3, GPT-OSS, GraniteMoE."""

from safetensors_case import SafetensorsCase

SMALL = dict(
    vocab_size=67,
    hidden_size=30,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
)


def case(name: str, model: str, *layers: dict, **fields) -> SafetensorsCase:
    """A case whose config is that of small models with some changes, the last of which go in `config`."""
    config = dict(SMALL)
    for layer in (*layers, fields.pop("config", {})):
        config = config | layer
    if config["head_dim"] is None:
        del config["head_dim"]
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def mixtral(name: str, model: str = "MixtralForCausalLM", **fields) -> SafetensorsCase:
    """A Mixtral case."""
    return case(name, model, dict(num_local_experts=5, num_experts_per_tok=2), **fields)


def qwen2(name: str, model: str = "Qwen2MoeForCausalLM", **fields) -> SafetensorsCase:
    """A Qwen2-MoE case, whose heads are equal parts of the width."""
    sizes = dict(
        hidden_size=36,
        head_dim=None,
        num_experts=5,
        num_experts_per_tok=3,
        moe_intermediate_size=14,
        shared_expert_intermediate_size=22,
    )
    return case(name, model, sizes, **fields)


def qwen3(name: str, model: str = "Qwen3MoeForCausalLM", **fields) -> SafetensorsCase:
    """A Qwen3-MoE case."""
    return case(name, model, dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=14), **fields)


LATENT = dict(
    head_dim=None,
    num_attention_heads=5,
    num_key_value_heads=5,
    n_routed_experts=6,
    num_experts_per_tok=3,
    moe_intermediate_size=12,
    n_shared_experts=2,
    first_k_dense_replace=1,
    q_lora_rank=18,
    kv_lora_rank=14,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=7,
)


def deepseek2(name: str, model: str = "DeepseekV2ForCausalLM", **fields) -> SafetensorsCase:
    """A DeepSeek-V2 case."""
    return case(name, model, LATENT, **fields)


def deepseek3(name: str, model: str = "DeepseekV3ForCausalLM", **fields) -> SafetensorsCase:
    """A DeepSeek-V3 case, with experts in groups."""
    return case(name, model, LATENT, dict(n_routed_experts=8, n_shared_experts=1, n_group=4, topk_group=2), **fields)


def gpt_oss(name: str, model: str = "GptOssForCausalLM", **fields) -> SafetensorsCase:
    """A GPT-OSS case, whose windows are shorter than its inputs."""
    sizes = dict(num_local_experts=5, num_experts_per_tok=2, sliding_window=5, intermediate_size=14)
    rope = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16, truncate=False)
    return case(name, model, sizes, dict(rope_parameters=rope), **fields)


YARN = dict(rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=16)

MIXTRAL = [
    mixtral("mixtral", lengths=(13, 1, 6)),
    mixtral("mixtral-window", config=dict(sliding_window=5, tie_word_embeddings=True), padding="left"),
    mixtral("mixtral-bf16", config=dict(num_experts_per_tok=1, hidden_act="gelu"), dtype="bfloat16"),
    mixtral("mixtral-classifier", "MixtralForSequenceClassification", config=dict(num_labels=3, pad_token_id=0)),
]

QWEN = [
    qwen2("qwen2-moe", padding="left"),
    qwen2(
        "qwen2-moe-switches",
        config=dict(
            num_hidden_layers=5,
            decoder_sparse_step=2,
            mlp_only_layers=[3],
            norm_topk_prob=True,
            qkv_bias=False,
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=4,
        ),
    ),
    qwen2("qwen2-moe-base", "Qwen2MoeModel"),
    qwen2("qwen2-moe-classifier", "Qwen2MoeForSequenceClassification", config=dict(num_labels=3, pad_token_id=0)),
    qwen3("qwen3-moe", config=dict(norm_topk_prob=True)),
    qwen3(
        "qwen3-moe-switches",
        config=dict(
            num_hidden_layers=3,
            decoder_sparse_step=2,
            attention_bias=True,
            use_sliding_window=True,
            sliding_window=6,
        ),
        padding="left",
    ),
    qwen3("qwen3-moe-stacked", config=dict(norm_topk_prob=True), as_in_memory=True),
    qwen3("qwen3-moe-f16", config=dict(num_experts_per_tok=2, norm_topk_prob=True), dtype="float16"),
]

DEEPSEEK = [
    deepseek2("deepseek-v2", padding="left"),
    deepseek2(
        "deepseek-v2-switches",
        config=dict(
            num_hidden_layers=3,
            q_lora_rank=None,
            attention_bias=True,
            mlp_bias=True,
            topk_method="group_limited_greedy",
            n_group=3,
            topk_group=2,
            routed_scaling_factor=1.7,
            rope_parameters=YARN | dict(mscale=0.707, mscale_all_dim=0.9),
        ),
    ),
    deepseek2("deepseek-v2-base", "DeepseekV2Model"),
    deepseek2("deepseek-v2-classifier", "DeepseekV2ForSequenceClassification", config=dict(num_labels=3, pad_token_id=0)),
    deepseek3("deepseek-v3"),
    deepseek3(
        "deepseek-v3-switches",
        config=dict(
            first_k_dense_replace=0,
            attention_bias=True,
            norm_topk_prob=False,
            routed_scaling_factor=1.3,
            rope_interleave=False,
            rope_parameters=YARN | dict(mscale=1.0, mscale_all_dim=1.0),
        ),
        padding="left",
    ),
    deepseek3("deepseek-v3-no-query-rank", config=dict(q_lora_rank=None, n_group=2, topk_group=1), lengths=(9, 1)),
]

GPT_OSS = [
    gpt_oss("gpt-oss", lengths=(13, 9, 4)),
    gpt_oss(
        "gpt-oss-switches",
        config=dict(
            num_hidden_layers=3,
            attention_bias=False,
            layer_types=["full_attention", "sliding_attention", "sliding_attention"],
            sliding_window=3,
            swiglu_alpha=1.1,
            swiglu_limit=0.8,
            rope_parameters=dict(rope_type="default", rope_theta=100.0),
        ),
        padding="left",
    ),
    gpt_oss("gpt-oss-bf16", dtype="bfloat16", padding="left"),
    gpt_oss("gpt-oss-classifier", "GptOssForSequenceClassification", config=dict(num_labels=3, pad_token_id=0)),
]

GRANITE = [
    case(
        "granite-moe",
        "GraniteMoeForCausalLM",
        dict(head_dim=None, hidden_size=36, num_local_experts=5, num_experts_per_tok=2),
        config=dict(
            attention_bias=True,
            embedding_multiplier=1.3,
            logits_scaling=0.8,
            residual_multiplier=0.9,
            attention_multiplier=0.45,
        ),
        padding="left",
    ),
]

CASES = MIXTRAL + QWEN + DEEPSEEK + GPT_OSS + GRANITE
