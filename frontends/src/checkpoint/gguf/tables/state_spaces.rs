//! State spaces, which have no heads.

use super::super::architecture::{Architecture, Change, Field};
use super::SILU;
use Field::{Flag, Known, Number, Present, Size};

pub(super) const MAMBA: Architecture = Architecture {
    name: "mamba",
    model_type: "mamba",
    class: "MambaForCausalLM",
    fields: &[
        SILU,
        &[
            Size("embedding_length", "hidden_size"),
            Size("block_count", "num_hidden_layers"),
            Size("ssm.conv_kernel", "conv_kernel"),
            Size("ssm.inner_size", "intermediate_size"),
            Size("ssm.state_size", "state_size"),
            Size("ssm.time_step_rank", "time_step_rank"),
            Number("attention.layer_norm_rms_epsilon", "layer_norm_epsilon"),
            Flag("ssm.dt_b_c_rms", "dt_b_c_rms"),
            Known("context_length"),
            Known("feed_forward_length"),
            Field::NoHeads,
            Present("blk.0.ssm_conv1d.bias", "use_conv_bias"),
            Present("blk.0.ssm_in.bias", "use_bias"),
        ],
    ],
    top: &[
        ("token_embd", "backbone.embeddings", Change::None),
        ("output_norm", "backbone.norm_f", Change::None),
        ("output", "lm_head", Change::None),
    ],
    layers: "backbone.layers",
    layer: &[&[
        ("attn_norm", "norm", Change::None),
        ("ssm_in", "mixer.in_proj", Change::None),
        ("ssm_conv1d", "mixer.conv1d", Change::Depthwise),
        ("ssm_x", "mixer.x_proj", Change::None),
        ("ssm_dt", "mixer.dt_proj", Change::None),
        ("ssm_a", "mixer.A_log", Change::NegativeExp),
        ("ssm_d", "mixer.D", Change::Unsuffixed),
        ("ssm_out", "mixer.out_proj", Change::None),
    ]],
};
