//! GGUF's architectures as data: llama.cpp's names beside transformers'
//! (llama.cpp, `gguf-py/gguf/tensor_mapping.py` and `convert_hf_to_gguf.py`).
//!
//! Adding an architecture is adding a table. What llama.cpp's converter does to values is named by a [`Change`].

mod gpts;
mod state_spaces;

use super::architecture::{Architecture, Change, Constant, Field, Name};
use super::mixtures;
use super::rope::Rope;
use Change::{KeyPairs, PlusOne, QueryPairs, Stacked, Transposed};
use Field::{Always, Flag, Known, Number, OptionalNumber, OptionalSize, Present, Size, Zero};
use gpts::{BLOOM, FALCON, FALCON_40B, GPT_NEOX, GPTJ, STARCODER};
use state_spaces::MAMBA;

/// Sizes of a decoder.
const SIZES: &[Field] = &[
    Size("embedding_length", "hidden_size"),
    Size("feed_forward_length", "intermediate_size"),
    Size("block_count", "num_hidden_layers"),
    Size("attention.head_count", "num_attention_heads"),
    OptionalSize("attention.head_count_kv", "num_key_value_heads"),
    Size("context_length", "max_position_embeddings"),
    Field::Heads,
    Zero("expert_count"),
    Zero("expert_used_count"),
    Zero("pooling_type"),
];
pub(super) const ROPE: &[Field] = &[Field::Rope(Rope { theta: 10_000.0 })];
pub(super) const RMS: &[Field] = &[Number("attention.layer_norm_rms_epsilon", "rms_norm_eps")];
const LAYER_NORM: &[Field] = &[Number("attention.layer_norm_epsilon", "layer_norm_eps")];
const WINDOW: &[Field] = &[OptionalSize("attention.sliding_window", "sliding_window")];
pub(super) const SILU: &[Field] = &[Always("hidden_act", Constant::Text("silu"))];
pub(super) const ATTENTION_BIAS: &[Field] = &[Present("blk.0.attn_q.bias", "attention_bias")];
const MLP_BIAS: &[Field] = &[Present("blk.0.ffn_up.bias", "mlp_bias")];

const TOP: &[Name] = &[
    ("token_embd", "model.embed_tokens", Change::None),
    ("output_norm", "model.norm", Change::None),
    ("output", "lm_head", Change::None),
];
pub(super) const ATTENTION: &[Name] = &[
    ("attn_q", "self_attn.q_proj", Change::None),
    ("attn_k", "self_attn.k_proj", Change::None),
    ("attn_v", "self_attn.v_proj", Change::None),
    ("attn_output", "self_attn.o_proj", Change::None),
];
pub(super) const PAIRED_ATTENTION: &[Name] = &[
    ("attn_q", "self_attn.q_proj", QueryPairs),
    ("attn_k", "self_attn.k_proj", KeyPairs),
    ("attn_v", "self_attn.v_proj", Change::None),
    ("attn_output", "self_attn.o_proj", Change::None),
];
pub(super) const GATED_MLP: &[Name] = &[
    ("ffn_gate", "mlp.gate_proj", Change::None),
    ("ffn_up", "mlp.up_proj", Change::None),
    ("ffn_down", "mlp.down_proj", Change::None),
];
pub(super) const PRE_NORMS: &[Name] =
    &[("attn_norm", "input_layernorm", Change::None), ("ffn_norm", "post_attention_layernorm", Change::None)];
pub(super) const HEAD_NORMS: &[Name] =
    &[("attn_q_norm", "self_attn.q_norm", Change::None), ("attn_k_norm", "self_attn.k_norm", Change::None)];

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    class: "LlamaForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU, ATTENTION_BIAS, MLP_BIAS],
    top: TOP,
    layers: "model.layers",
    layer: &[PRE_NORMS, PAIRED_ATTENTION, GATED_MLP],
};

const QWEN2: Architecture = Architecture {
    name: "qwen2",
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU],
    layer: &[PRE_NORMS, ATTENTION, GATED_MLP],
    ..LLAMA
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU, ATTENTION_BIAS],
    layer: &[PRE_NORMS, ATTENTION, HEAD_NORMS, GATED_MLP],
    ..LLAMA
};

/// Gemma's norms, whose weights the converter adds one to.
const GEMMA_TOP: &[Name] = &[
    ("token_embd", "model.embed_tokens", Change::None),
    ("output_norm", "model.norm", PlusOne),
    ("output", "lm_head", Change::None),
];
const GEMMA_ACTIVATION: &[Field] = &[Always("hidden_activation", Constant::Text("gelu_pytorch_tanh"))];
const SANDWICH_NORMS: &[Name] = &[
    ("attn_norm", "input_layernorm", PlusOne),
    ("post_attention_norm", "post_attention_layernorm", PlusOne),
    ("ffn_norm", "pre_feedforward_layernorm", PlusOne),
    ("post_ffw_norm", "post_feedforward_layernorm", PlusOne),
];

const GEMMA: Architecture = Architecture {
    name: "gemma",
    model_type: "gemma",
    class: "GemmaForCausalLM",
    fields: &[SIZES, RMS, ROPE, GEMMA_ACTIVATION, ATTENTION_BIAS],
    top: GEMMA_TOP,
    layer: &[
        &[("attn_norm", "input_layernorm", PlusOne), ("ffn_norm", "post_attention_layernorm", PlusOne)],
        ATTENTION,
        GATED_MLP,
    ],
    ..LLAMA
};

const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    fields: &[
        SIZES,
        RMS,
        ROPE,
        GEMMA_ACTIVATION,
        ATTENTION_BIAS,
        WINDOW,
        &[
            OptionalNumber("attn_logit_softcapping", "attn_logit_softcapping"),
            OptionalNumber("final_logit_softcapping", "final_logit_softcapping"),
            Field::ScoreWidth(46), // 27B
        ],
    ],
    layer: &[SANDWICH_NORMS, ATTENTION, GATED_MLP],
    ..GEMMA
};

const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    fields: &[
        SIZES,
        RMS,
        &[Field::Rope(Rope { theta: 1_000_000.0 }), OptionalNumber("rope.freq_base_swa", "rope_local_base_freq")],
        GEMMA_ACTIVATION,
        ATTENTION_BIAS,
        WINDOW,
        &[
            OptionalNumber("final_logit_softcapping", "final_logit_softcapping"),
            OptionalSize("attention.sliding_window_pattern", "sliding_window_pattern"),
            Field::ScoreWidth(62), // 27B
        ],
    ],
    layer: &[
        SANDWICH_NORMS,
        ATTENTION,
        &[("attn_q_norm", "self_attn.q_norm", PlusOne), ("attn_k_norm", "self_attn.k_norm", PlusOne)],
        GATED_MLP,
    ],
    ..GEMMA
};

const PHI2: Architecture = Architecture {
    name: "phi2",
    model_type: "phi",
    class: "PhiForCausalLM",
    fields: &[SIZES, LAYER_NORM, ROPE, &[Always("hidden_act", Constant::Text("gelu_new"))]],
    top: &[
        ("token_embd", "model.embed_tokens", Change::None),
        ("output_norm", "model.final_layernorm", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layer: &[&[
        ("attn_norm", "input_layernorm", Change::None),
        ("attn_q", "self_attn.q_proj", Change::None),
        ("attn_k", "self_attn.k_proj", Change::None),
        ("attn_v", "self_attn.v_proj", Change::None),
        ("attn_output", "self_attn.dense", Change::None),
        ("ffn_up", "mlp.fc1", Change::None),
        ("ffn_down", "mlp.fc2", Change::None),
    ]],
    ..LLAMA
};

const PHI3: Architecture = Architecture {
    name: "phi3",
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU, WINDOW],
    layer: &[
        PRE_NORMS,
        &[
            ("attn_qkv", "self_attn.qkv_proj", Change::None),
            ("attn_output", "self_attn.o_proj", Change::None),
            ("ffn_up", "mlp.gate_up_proj", Change::None),
            ("ffn_down", "mlp.down_proj", Change::None),
        ],
    ],
    ..LLAMA
};

const STABLELM: Architecture = Architecture {
    name: "stablelm",
    model_type: "stablelm",
    class: "StableLmForCausalLM",
    fields: &[
        SIZES,
        LAYER_NORM,
        ROPE,
        SILU,
        &[
            Flag("use_parallel_residual", "use_parallel_residual"),
            Present("blk.0.attn_q.bias", "use_qkv_bias"),
            Present("blk.0.attn_q_norm.weight", "qk_layernorm"),
        ],
    ],
    layer: &[
        PRE_NORMS,
        ATTENTION,
        GATED_MLP,
        &[
            ("attn_q_norm", "self_attn.q_layernorm.norms.{h}", Stacked),
            ("attn_k_norm", "self_attn.k_layernorm.norms.{h}", Stacked),
        ],
    ],
    ..LLAMA
};

const STARCODER2: Architecture = Architecture {
    name: "starcoder2",
    model_type: "starcoder2",
    class: "Starcoder2ForCausalLM",
    fields: &[
        SIZES,
        &[Number("attention.layer_norm_epsilon", "norm_epsilon"), Present("blk.0.attn_q.bias", "use_bias")],
        ROPE,
        WINDOW,
        &[Always("hidden_act", Constant::Text("gelu_pytorch_tanh"))],
    ],
    layer: &[PRE_NORMS, ATTENTION, &[("ffn_up", "mlp.c_fc", Change::None), ("ffn_down", "mlp.c_proj", Change::None)]],
    ..LLAMA
};

const OLMO2: Architecture = Architecture {
    name: "olmo2",
    model_type: "olmo2",
    class: "Olmo2ForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU, ATTENTION_BIAS],
    layer: &[
        ATTENTION,
        HEAD_NORMS,
        GATED_MLP,
        &[
            ("post_attention_norm", "post_attention_layernorm", Change::None),
            ("post_ffw_norm", "post_feedforward_layernorm", Change::None),
        ],
    ],
    ..LLAMA
};

const COHERE: Architecture = Architecture {
    name: "command-r",
    model_type: "cohere",
    class: "CohereForCausalLM",
    fields: &[
        SIZES,
        LAYER_NORM,
        ROPE,
        SILU,
        ATTENTION_BIAS,
        &[Number("logit_scale", "logit_scale"), Present("blk.0.attn_q_norm.weight", "use_qk_norm")],
    ],
    layer: &[&[("attn_norm", "input_layernorm", Change::None)], ATTENTION, HEAD_NORMS, GATED_MLP],
    ..LLAMA
};

const COHERE2: Architecture = Architecture {
    name: "cohere2",
    model_type: "cohere2",
    class: "Cohere2ForCausalLM",
    fields: &[SIZES, LAYER_NORM, ROPE, SILU, ATTENTION_BIAS, WINDOW, &[Number("logit_scale", "logit_scale")]],
    layer: &[&[("attn_norm", "input_layernorm", Change::None)], ATTENTION, GATED_MLP],
    ..LLAMA
};

pub(super) const GRANITE_SCALES: &[Field] = &[
    OptionalNumber("attention.scale", "attention_multiplier"),
    OptionalNumber("embedding_scale", "embedding_multiplier"),
    OptionalNumber("residual_scale", "residual_multiplier"),
    OptionalNumber("logit_scale", "logits_scaling"),
];

const GRANITE: Architecture = Architecture {
    name: "granite",
    model_type: "granite",
    class: "GraniteForCausalLM",
    fields: &[SIZES, RMS, ROPE, SILU, ATTENTION_BIAS, MLP_BIAS, GRANITE_SCALES],
    ..LLAMA
};

const SMOLLM3: Architecture = Architecture {
    name: "smollm3",
    model_type: "smollm3",
    class: "SmolLM3ForCausalLM",
    // llama.cpp leaves every fourth layer without positions, whatever the config said.
    fields: &[
        SIZES,
        RMS,
        ROPE,
        SILU,
        ATTENTION_BIAS,
        MLP_BIAS,
        &[Always("no_rope_layer_interval", Constant::Size(4)), Always("use_sliding_window", Constant::Flag(false))],
    ],
    ..LLAMA
};

const GPT2_FIELDS: &[Field] = &[
    Size("context_length", "n_positions"),
    Size("embedding_length", "n_embd"),
    Size("block_count", "n_layer"),
    Size("attention.head_count", "n_head"),
    Size("feed_forward_length", "n_inner"),
    Number("attention.layer_norm_epsilon", "layer_norm_epsilon"),
    Known("attention.head_count_kv"),
];

const GPT2: Architecture = Architecture {
    name: "gpt2",
    model_type: "gpt2",
    class: "GPT2LMHeadModel",
    fields: &[GPT2_FIELDS, &[Always("activation_function", Constant::Text("gelu_new"))]],
    top: &[
        ("token_embd", "wte", Change::None),
        ("position_embd", "wpe", Change::None),
        ("output_norm", "ln_f", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layers: "h",
    layer: &[&[
        ("attn_norm", "ln_1", Change::None),
        ("attn_qkv", "attn.c_attn", Transposed),
        ("attn_output", "attn.c_proj", Transposed),
        ("ffn_norm", "ln_2", Change::None),
        ("ffn_up", "mlp.c_fc", Transposed),
        ("ffn_down", "mlp.c_proj", Transposed),
    ]],
};

/// Every architecture that can be read.
pub(super) const ALL: &[Architecture] = &[
    LLAMA, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, PHI2, PHI3, STABLELM, STARCODER2, OLMO2, COHERE, COHERE2, GRANITE,
    SMOLLM3, GPT2, FALCON, FALCON_40B, GPT_NEOX, BLOOM, STARCODER, GPTJ, MAMBA,
];

/// Their names, for people.
pub(super) fn names() -> String {
    let all = ALL.iter().chain(mixtures::ALL.iter().filter(|mixture| mixture.name != LLAMA.name));
    let mut names: Vec<&str> = all.map(|architecture| architecture.name).collect();
    names.dedup();
    names.join(", ")
}
