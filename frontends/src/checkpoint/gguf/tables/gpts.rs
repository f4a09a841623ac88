//! Decoders of GPT-2's time, most of which have one layer for queries, keys and values.

use super::super::architecture::{Architecture, Change, Constant, Field, Name};
use super::{GPT2, GPT2_FIELDS, LAYER_NORM, PRE_NORMS, ROPE};
use Change::Joint;
use Field::{Always, Flag, Known, Number, Present, Size};

const FALCON_FIELDS: &[Field] = &[
    Size("embedding_length", "hidden_size"),
    Size("feed_forward_length", "ffn_hidden_size"),
    Size("block_count", "num_hidden_layers"),
    Size("attention.head_count", "num_attention_heads"),
    Size("attention.head_count_kv", "num_kv_heads"),
    Size("context_length", "max_position_embeddings"),
    Number("attention.layer_norm_epsilon", "layer_norm_epsilon"),
    Present("blk.0.attn_qkv.bias", "bias"),
    // One key head is one group.
    Always("new_decoder_architecture", Constant::Flag(true)),
];
const FALCON_LAYER: &[Name] = &[
    ("attn_qkv", "self_attention.query_key_value", Joint),
    ("attn_output", "self_attention.dense", Change::None),
    ("ffn_up", "mlp.dense_h_to_4h", Change::None),
    ("ffn_down", "mlp.dense_4h_to_h", Change::None),
];

/// Falcon with one norm in a layer, as the models of 7B and 11B.
pub(super) const FALCON: Architecture = Architecture {
    name: "falcon",
    model_type: "falcon",
    class: "FalconForCausalLM",
    fields: &[FALCON_FIELDS, ROPE, &[Always("num_ln_in_parallel_attn", Constant::Size(1))]],
    top: &[
        ("token_embd", "word_embeddings", Change::None),
        ("output_norm", "ln_f", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layers: "h",
    layer: &[FALCON_LAYER, &[("attn_norm", "input_layernorm", Change::None)]],
};

/// Falcon with two, as the models of 40B and 180B.
pub(super) const FALCON_40B: Architecture = Architecture {
    fields: &[FALCON_FIELDS, ROPE, &[Always("num_ln_in_parallel_attn", Constant::Size(2))]],
    layer: &[FALCON_LAYER, &[("attn_norm", "ln_mlp", Change::None), ("attn_norm_2", "ln_attn", Change::None)]],
    ..FALCON
};

pub(super) const GPT_NEOX: Architecture = Architecture {
    name: "gptneox",
    model_type: "gpt_neox",
    class: "GPTNeoXForCausalLM",
    fields: &[
        &[
            Size("embedding_length", "hidden_size"),
            Size("feed_forward_length", "intermediate_size"),
            Size("block_count", "num_hidden_layers"),
            Size("attention.head_count", "num_attention_heads"),
            Size("context_length", "max_position_embeddings"),
            Flag("use_parallel_residual", "use_parallel_residual"),
            Present("blk.0.attn_qkv.bias", "attention_bias"),
            Always("hidden_act", Constant::Text("gelu")),
        ],
        LAYER_NORM,
        ROPE,
    ],
    top: &[
        ("token_embd", "embed_in", Change::None),
        ("output_norm", "final_layer_norm", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layers: "layers",
    layer: &[
        PRE_NORMS,
        &[
            ("attn_qkv", "attention.query_key_value", Joint),
            ("attn_output", "attention.dense", Change::None),
            ("ffn_up", "mlp.dense_h_to_4h", Change::None),
            ("ffn_down", "mlp.dense_4h_to_h", Change::None),
        ],
    ],
};

pub(super) const BLOOM: Architecture = Architecture {
    name: "bloom",
    model_type: "bloom",
    class: "BloomForCausalLM",
    fields: &[&[
        Size("embedding_length", "hidden_size"),
        Size("block_count", "n_layer"),
        Size("attention.head_count", "n_head"),
        Number("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        Known("feed_forward_length"),
        Known("context_length"),
    ]],
    top: &[
        ("token_embd", "word_embeddings", Change::None),
        ("token_embd_norm", "word_embeddings_layernorm", Change::None),
        ("output_norm", "ln_f", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layer: &[PRE_NORMS, FALCON_LAYER],
    ..FALCON
};

/// GPT-BigCode, whose queries share one head of keys and values.
pub(super) const STARCODER: Architecture = Architecture {
    name: "starcoder",
    model_type: "gpt_bigcode",
    class: "GPTBigCodeForCausalLM",
    fields: &[
        GPT2_FIELDS,
        &[
            Always("activation_function", Constant::Text("gelu_pytorch_tanh")),
            Always("multi_query", Constant::Flag(true)),
        ],
    ],
    layer: &[&[
        ("attn_norm", "ln_1", Change::None),
        ("attn_qkv", "attn.c_attn", Change::None),
        ("attn_output", "attn.c_proj", Change::None),
        ("ffn_norm", "ln_2", Change::None),
        ("ffn_up", "mlp.c_fc", Change::None),
        ("ffn_down", "mlp.c_proj", Change::None),
    ]],
    ..GPT2
};

pub(super) const GPTJ: Architecture = Architecture {
    name: "gptj",
    model_type: "gptj",
    class: "GPTJForCausalLM",
    fields: &[
        GPT2_FIELDS,
        &[Size("rope.dimension_count", "rotary_dim"), Always("activation_function", Constant::Text("gelu_new"))],
    ],
    top: &[
        ("token_embd", "wte", Change::None),
        ("output_norm", "ln_f", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layer: &[&[
        ("attn_norm", "ln_1", Change::None),
        ("attn_q", "attn.q_proj", Change::None),
        ("attn_k", "attn.k_proj", Change::None),
        ("attn_v", "attn.v_proj", Change::None),
        ("attn_output", "attn.out_proj", Change::None),
        ("ffn_up", "mlp.fc_in", Change::None),
        ("ffn_down", "mlp.fc_out", Change::None),
    ]],
    ..GPT2
};
