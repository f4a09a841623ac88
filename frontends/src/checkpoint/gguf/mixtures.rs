//! GGUF's mixtures of experts as data.
//!
//! Files hold the gates of all experts of a layer in one tensor, and so their inputs and results. Each becomes
//! `experts.gate_proj.weight` and so on, which no checkpoint of transformers has but the blocks know.

use super::GgufError;
use super::architecture::{Architecture, Change, Constant, Field, Name};
use super::metadata::Keys;
use super::rope::Rope;
use super::tables::{
    ATTENTION, ATTENTION_BIAS, GATED_MLP, GRANITE_SCALES, HEAD_NORMS, LLAMA, PAIRED_ATTENTION, PRE_NORMS, RMS, ROPE,
    SILU,
};
use Change::{Bare, Row};
use Field::{Always, Flag, Known, Number, Only, OptionalSize, Present, Size, Zero};

/// What `expert_gating_func` calls the softmax.
const SOFTMAX: usize = 1;
/// What it calls the logistic function.
const SIGMOID: usize = 2;
/// What it calls the softmax over the chosen experts.
const SOFTMAX_OF_CHOSEN: usize = 3;

/// Sizes of a decoder with experts.
const SIZES: &[Field] = &[
    Size("embedding_length", "hidden_size"),
    Size("block_count", "num_hidden_layers"),
    Size("attention.head_count", "num_attention_heads"),
    OptionalSize("attention.head_count_kv", "num_key_value_heads"),
    Size("context_length", "max_position_embeddings"),
    Size("expert_used_count", "num_experts_per_tok"),
    Zero("pooling_type"),
];
const WIDTH: &[Field] = &[Field::Heads, Size("feed_forward_length", "intermediate_size")];
const EXPERT_WIDTH: &[Field] = &[Size("expert_feed_forward_length", "moe_intermediate_size")];
const LOCAL_COUNT: &[Field] = &[Size("expert_count", "num_local_experts"), Known("expert_feed_forward_length")];
const COUNT: &[Field] = &[Size("expert_count", "num_experts")];
const BY_SOFTMAX: &[Field] = &[Only("expert_gating_func", SOFTMAX)];
const BY_SOFTMAX_OF_CHOSEN: &[Field] = &[Only("expert_gating_func", SOFTMAX_OF_CHOSEN)];
const NO_GROUPS: &[Field] = &[Only("expert_group_count", 1), Only("expert_group_used_count", 1)];

const EXPERTS: &[Name] = &[
    ("ffn_gate_exps", "mlp.experts.gate_proj", Change::None),
    ("ffn_up_exps", "mlp.experts.up_proj", Change::None),
    ("ffn_down_exps", "mlp.experts.down_proj", Change::None),
];
const ROUTER: &[Name] = &[("ffn_gate_inp", "mlp.gate", Change::None)];
const BLOCK_EXPERTS: &[Name] = &[
    ("ffn_gate_exps", "block_sparse_moe.experts.gate_proj", Change::None),
    ("ffn_up_exps", "block_sparse_moe.experts.up_proj", Change::None),
    ("ffn_down_exps", "block_sparse_moe.experts.down_proj", Change::None),
];

const MIXTRAL: Architecture = Architecture {
    name: "llama",
    model_type: "mixtral",
    class: "MixtralForCausalLM",
    fields: &[SIZES, WIDTH, LOCAL_COUNT, BY_SOFTMAX, NO_GROUPS, RMS, ROPE, SILU],
    layer: &[PRE_NORMS, PAIRED_ATTENTION, BLOCK_EXPERTS, &[("ffn_gate_inp", "block_sparse_moe.gate", Change::None)]],
    ..LLAMA
};

const QWEN2: Architecture = Architecture {
    name: "qwen2moe",
    model_type: "qwen2_moe",
    class: "Qwen2MoeForCausalLM",
    fields: &[
        SIZES,
        WIDTH,
        EXPERT_WIDTH,
        COUNT,
        BY_SOFTMAX,
        NO_GROUPS,
        RMS,
        ROPE,
        SILU,
        &[
            Size("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
            Present("blk.0.attn_q.bias", "qkv_bias"),
            Always("norm_topk_prob", Constant::Flag(false)),
            Flag("expert_weights_norm", "norm_topk_prob"),
        ],
    ],
    layer: &[
        PRE_NORMS,
        ATTENTION,
        ROUTER,
        EXPERTS,
        &[
            ("ffn_gate_inp_shexp", "mlp.shared_expert_gate", Row),
            ("ffn_gate_shexp", "mlp.shared_expert.gate_proj", Change::None),
            ("ffn_up_shexp", "mlp.shared_expert.up_proj", Change::None),
            ("ffn_down_shexp", "mlp.shared_expert.down_proj", Change::None),
        ],
    ],
    ..LLAMA
};

const QWEN3: Architecture = Architecture {
    name: "qwen3moe",
    model_type: "qwen3_moe",
    class: "Qwen3MoeForCausalLM",
    fields: &[
        SIZES,
        WIDTH,
        EXPERT_WIDTH,
        COUNT,
        BY_SOFTMAX,
        NO_GROUPS,
        RMS,
        ROPE,
        SILU,
        ATTENTION_BIAS,
        &[Always("norm_topk_prob", Constant::Flag(true)), Flag("expert_weights_norm", "norm_topk_prob")],
    ],
    layer: &[PRE_NORMS, ATTENTION, HEAD_NORMS, ROUTER, EXPERTS],
    ..LLAMA
};

const GRANITE: Architecture = Architecture {
    name: "granitemoe",
    model_type: "granitemoe",
    class: "GraniteMoeForCausalLM",
    fields: &[
        SIZES,
        WIDTH,
        LOCAL_COUNT,
        BY_SOFTMAX,
        NO_GROUPS,
        RMS,
        ROPE,
        SILU,
        ATTENTION_BIAS,
        GRANITE_SCALES,
        &[Zero("expert_shared_feed_forward_length")],
    ],
    layer: &[
        PRE_NORMS,
        PAIRED_ATTENTION,
        BLOCK_EXPERTS,
        &[("ffn_gate_inp", "block_sparse_moe.router.layer", Change::None)],
    ],
    ..LLAMA
};

/// Latent attention, and experts after the first layers.
const DEEPSEEK_FIELDS: &[Field] = &[
    Field::LatentHeads,
    Size("feed_forward_length", "intermediate_size"),
    OptionalSize("attention.q_lora_rank", "q_lora_rank"),
    Size("attention.kv_lora_rank", "kv_lora_rank"),
    Size("expert_count", "n_routed_experts"),
    Size("expert_shared_count", "n_shared_experts"),
    Always("first_k_dense_replace", Constant::Size(0)),
    OptionalSize("leading_dense_block_count", "first_k_dense_replace"),
    Number("expert_weights_scale", "routed_scaling_factor"),
    // Files that name no groups have none.
    Always("n_group", Constant::Size(1)),
    OptionalSize("expert_group_count", "n_group"),
    Always("topk_group", Constant::Size(1)),
    OptionalSize("expert_group_used_count", "topk_group"),
    Zero("nextn_predict_layers"),
    Always("norm_topk_prob", Constant::Flag(false)),
    Flag("expert_weights_norm", "norm_topk_prob"),
    Present("blk.0.attn_kv_a_mqa.bias", "attention_bias"),
    Field::Rope(Rope { theta: 10_000.0 }),
    Field::YarnCoefficients,
];
const LATENT_ATTENTION: &[Name] = &[
    ("attn_q", "self_attn.q_proj", Change::None),
    ("attn_q_a", "self_attn.q_a_proj", Change::None),
    ("attn_q_a_norm", "self_attn.q_a_layernorm", Change::None),
    ("attn_q_b", "self_attn.q_b_proj", Change::None),
    ("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", Change::None),
    ("attn_kv_a_norm", "self_attn.kv_a_layernorm", Change::None),
    ("attn_kv_b", "self_attn.kv_b_proj", Change::None),
    ("attn_k_b", "self_attn.k_b_proj", Change::None),
    ("attn_v_b", "self_attn.v_b_proj", Change::None),
    ("attn_output", "self_attn.o_proj", Change::None),
];
const SHARED_EXPERTS: &[Name] = &[
    ("ffn_gate_shexp", "mlp.shared_experts.gate_proj", Change::None),
    ("ffn_up_shexp", "mlp.shared_experts.up_proj", Change::None),
    ("ffn_down_shexp", "mlp.shared_experts.down_proj", Change::None),
    ("exp_probs_b", "mlp.gate.e_score_correction_bias", Bare),
];

const DEEPSEEK2: Architecture = Architecture {
    name: "deepseek2",
    model_type: "deepseek_v2",
    class: "DeepseekV2ForCausalLM",
    fields: &[
        SIZES,
        EXPERT_WIDTH,
        DEEPSEEK_FIELDS,
        BY_SOFTMAX,
        RMS,
        SILU,
        &[Always("topk_method", Constant::Text("group_limited_greedy"))],
    ],
    layer: &[PRE_NORMS, LATENT_ATTENTION, GATED_MLP, ROUTER, EXPERTS, SHARED_EXPERTS],
    ..LLAMA
};

const DEEPSEEK3: Architecture = Architecture {
    model_type: "deepseek_v3",
    class: "DeepseekV3ForCausalLM",
    fields: &[SIZES, EXPERT_WIDTH, DEEPSEEK_FIELDS, &[Only("expert_gating_func", SIGMOID)], RMS, SILU],
    ..DEEPSEEK2
};

const GPT_OSS: Architecture = Architecture {
    name: "gpt-oss",
    model_type: "gpt_oss",
    class: "GptOssForCausalLM",
    fields: &[
        SIZES,
        &[
            Field::Heads,
            Size("expert_feed_forward_length", "intermediate_size"),
            Known("feed_forward_length"),
            Size("expert_count", "num_local_experts"),
            Size("attention.sliding_window", "sliding_window"),
        ],
        BY_SOFTMAX_OF_CHOSEN,
        NO_GROUPS,
        RMS,
        ROPE,
        SILU,
        ATTENTION_BIAS,
        &[Field::YarnTruncates(false)],
    ],
    layer: &[
        ATTENTION,
        EXPERTS,
        &[
            ("attn_norm", "input_layernorm", Change::None),
            ("ffn_gate_inp", "mlp.router", Change::None),
            ("attn_sinks", "self_attn.sinks", Bare),
            ("post_attention_norm", "post_attention_layernorm", Change::None),
        ],
    ],
    ..LLAMA
};

/// Every mixture that can be read.
pub(super) const ALL: &[Architecture] = &[MIXTRAL, QWEN2, QWEN3, GRANITE, DEEPSEEK2, GPT_OSS];

/// The table of a mixture. Mixtral shares its name with LLaMA, DeepSeek-V3 with V2.
pub(super) fn find(name: &str, keys: &Keys<'_>) -> Result<Option<&'static Architecture>, GgufError> {
    let size = |key: &str| Ok::<_, GgufError>(keys.size(&format!("{name}.{key}"))?.unwrap_or(0));
    Ok(match name {
        "llama" if size("expert_count")? == 0 => None,
        "deepseek2" if size("expert_gating_func")? == SIGMOID => Some(&DEEPSEEK3),
        _ => ALL.iter().find(|mixture| mixture.name == name),
    })
}
