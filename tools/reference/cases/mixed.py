"""Recurrent models with gates of many kinds, most beside attention: LFM2, RecurrentGemma, MiniMax, xLSTM."""

from pathlib import Path
from unittest import mock

import numpy as np
import transformers

from safetensors_case import SafetensorsCase, family

SMALL = dict(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    bos_token_id=None,
    eos_token_id=None,
)
CONV, FULL = "conv", "full_attention"
GROUPED = dict(num_attention_heads=6, num_key_value_heads=2)

lfm2 = family(
    "lfm2",
    "Lfm2",
    SMALL | GROUPED | dict(intermediate_size=36, block_multiple_of=10, layer_types=[CONV, CONV, FULL]),
)
lfm2_moe = family(
    "lfm2-moe",
    "Lfm2Moe",
    SMALL | GROUPED
    | dict(
        intermediate_size=20,
        moe_intermediate_size=14,
        num_dense_layers=1,
        num_experts=5,
        num_experts_per_tok=2,
        layer_types=[CONV, FULL, CONV],
    ),
)

recurrent_gemma = family(
    "recurrent-gemma",
    "RecurrentGemma",
    SMALL
    | dict(
        hidden_size=30,
        intermediate_size=40,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=12,
        attention_window_size=5,
        block_types=["recurrent", "attention"],
        num_hidden_layers=2,
    ),
    beams=False,
)
minimax = family(
    "minimax",
    "MiniMax",
    SMALL
    | dict(
        intermediate_size=14,
        num_local_experts=4,
        block_size=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["linear_attention", "linear_attention", FULL],
    ),
    beams=False,
)
xlstm = family(
    "xlstm",
    "xLSTM",
    SMALL
    | dict(
        hidden_size=16,
        num_heads=4,
        qk_dim_factor=4.0,
        v_dim_factor=4.0,
        ffn_round_up_to_multiple_of=6,
        num_hidden_layers=2,
        chunk_size=4,
    ),
    beams=False,
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


class FusedCase(SafetensorsCase):
    """An xLSTM whose parallel layers are one: transformers runs it, but its first values for it do not fit."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        with without_first_values():
            super().write_checkpoint(folder, generator)

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`."""
        with without_first_values():
            return super().load(folder)


def without_first_values():
    """Leaves the weights of new xLSTMs as they are."""
    return mock.patch.object(transformers.xLSTMPreTrainedModel, "_init_weights", lambda *_: None)


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
    recurrent_gemma("plain", lengths=(13, 7, 2)),
    recurrent_gemma(
        "switches",
        config=dict(
            conv1d_width=3,
            logits_soft_cap=12.0,
            attention_bias=True,
            hidden_activation="silu",
            tie_word_embeddings=False,
            num_key_value_heads=3,
            rms_norm_eps=0.02,
            rope_parameters=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=1.0),
        ),
        padding="left",
    ),
    recurrent_gemma(
        "base",
        "Model",
        config=dict(
            block_types=["attention", "recurrent", "recurrent"], num_hidden_layers=4, lru_width=36, head_dim=10
        ),
        padding="left",
        attention="sdpa",
    ),
    minimax("plain", lengths=(13, 7, 1)),
    minimax(
        "switches",
        config=dict(
            full_attn_alpha_factor=0.7,
            full_attn_beta_factor=1.2,
            linear_attn_alpha_factor=1.4,
            linear_attn_beta_factor=0.6,
            mlp_alpha_factor=0.9,
            mlp_beta_factor=1.7,
            sliding_window=5,
            head_dim=8,
            hidden_act="gelu",
            tie_word_embeddings=True,
            layer_types=[FULL, "linear_attention", "linear_attention"],
            rms_norm_eps=0.01,
        ),
        padding="left",
    ),
    minimax("base", "Model", config=dict(layer_types=None, block_size=3), padding="left"),
    minimax("sequences", "ForSequenceClassification", config=dict(num_labels=3, pad_token_id=0)),
    xlstm("plain", lengths=(13, 7, 1)),
    xlstm(
        "switches",
        config=dict(
            use_bias=True, gate_soft_cap=5.0, output_logit_soft_cap=12.0, eps=0.1, norm_eps=0.01, ffn_proj_factor=1.3
        ),
        padding="left",
    ),
    xlstm(
        "fused", case=FusedCase, config=dict(weight_mode="fused", use_bias=True, add_out_norm=False), padding="left"
    ),
    xlstm("base", "Model", config=dict(num_blocks=2, num_hidden_layers=3, embedding_dim=16)),
]
