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

CASES = MIXTRAL + QWEN
