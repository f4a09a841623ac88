"""Selective state spaces: Mamba and Falcon-Mamba."""

from safetensors_case import family

SMALL = dict(
    vocab_size=67,
    hidden_size=40,
    state_size=6,
    num_hidden_layers=2,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
)


mamba = family("mamba", "Mamba", SMALL)
falcon = family("falcon-mamba", "FalconMamba", SMALL)

CASES = [
    mamba("plain", lengths=(13, 7, 1)),
    mamba(
        "switches",
        config=dict(use_bias=True, use_conv_bias=False, conv_kernel=3, expand=3, time_step_rank=5, hidden_act="gelu"),
        padding="left",
    ),
    mamba("untied", config=dict(tie_word_embeddings=False, layer_norm_epsilon=0.01)),
    mamba("base", "Model", padding="left"),
    falcon("plain", config=dict(mixer_rms_eps=0.02), padding="left"),
    falcon("untied", config=dict(tie_word_embeddings=False, use_bias=True)),
    falcon("base", "Model"),
]
