"""Decoders of GPT-2's time: parallel layers, joint projections, ALiBi, windows in every other layer."""

import torch

from cases.descendants import CLASSES, WINDOW
from safetensors_case import Tensors, family

ENDS = dict(vocab_size=67, bos_token_id=None, eos_token_id=None, pad_token_id=None)
SMALL = ENDS | dict(hidden_size=48, num_attention_heads=3, num_hidden_layers=2)
GPT2 = ENDS | dict(n_embd=48, n_head=3, n_layer=2, n_inner=52, n_positions=47)


def older_names(tensors: Tensors) -> Tensors:
    """The buffers that version 4 stored in every layer, and the name of the matrix of scores."""
    layers = {name.split(".")[2] for name in tensors if name.startswith("gpt_neox.layers.")}
    buffers = {}
    for layer in sorted(layers):
        buffers[f"gpt_neox.layers.{layer}.attention.bias"] = torch.ones(1, 1, 4, 4)
        buffers[f"gpt_neox.layers.{layer}.attention.masked_bias"] = torch.tensor(-1e9)
        buffers[f"gpt_neox.layers.{layer}.attention.rotary_emb.inv_freq"] = torch.ones(2)
    return {name.replace("lm_head", "embed_out"): tensor for name, tensor in tensors.items()} | buffers


bloom = family("bloom", "Bloom", ENDS | dict(hidden_size=48, n_head=6, n_layer=2, tie_word_embeddings=False))
falcon = family(
    "falcon",
    "Falcon",
    SMALL | dict(num_attention_heads=6, num_kv_heads=2, ffn_hidden_size=52, tie_word_embeddings=False),
)
gpt_neo = family(
    "gpt-neo",
    "GPTNeo",
    ENDS
    | dict(
        hidden_size=48,
        num_heads=3,
        num_layers=4,
        attention_types=[[["global", "local"], 2]],
        window_size=WINDOW,
        max_position_embeddings=47,
        tie_word_embeddings=False,
    ),
)
gptj = family("gptj", "GPTJ", GPT2 | dict(rotary_dim=8))
gpt_neox = family("gpt-neox", "GPTNeoX", SMALL | dict(intermediate_size=52, max_position_embeddings=47))
bigcode = family("gpt-bigcode", "GPTBigCode", GPT2)
opt = family("opt", "OPT", SMALL | dict(ffn_dim=52, word_embed_proj_dim=48, max_position_embeddings=47, pad_token_id=1))

CASES = [
    bloom("plain", padding="left"),
    bloom("norm-residuals", config=dict(apply_residual_connection_post_layernorm=True, n_head=4)),
    bloom("tied", "Model"),
    bloom("classes", "ForSequenceClassification", config=CLASSES),
    falcon("one-key-head", padding="left"),
    falcon("own-key-heads", config=dict(multi_query=False, num_kv_heads=6, bias=True)),
    falcon("sequential", config=dict(parallel_attn=False, bias=True), padding="left"),
    falcon("alibi", config=dict(alibi=True, parallel_attn=False, multi_query=False, num_kv_heads=6), padding="left", attention="sdpa"),
    falcon("alibi-one-key-head", config=dict(alibi=True), lengths=(23, 9), attention="sdpa"),
    falcon("grouped", config=dict(new_decoder_architecture=True), padding="left"),
    falcon("grouped-one-norm", config=dict(new_decoder_architecture=True, num_ln_in_parallel_attn=1)),
    falcon("base", "Model", config=dict(tie_word_embeddings=True)),
    falcon("classes", "ForSequenceClassification", config=CLASSES),
    gpt_neo("plain", padding="left"),
    gpt_neo("patterns", config=dict(num_layers=3, attention_types=[[["local"], 2], [["global"], 1]])),
    gpt_neo("base", "Model", config=dict(intermediate_size=52)),
    gpt_neo("classes", "ForSequenceClassification", config=CLASSES),
    gptj("plain", padding="left"),
    gptj("all-channels", config=dict(rotary_dim=16, n_inner=None, activation_function="relu")),
    gptj("base", "Model"),
    gptj("classes", "ForSequenceClassification", config=CLASSES),
    gpt_neox("plain", padding="left"),
    gpt_neox(
        "sequential",
        config=dict(
            use_parallel_residual=False,
            attention_bias=False,
            rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=50.0, partial_rotary_factor=0.5),
        ),
    ),
    gpt_neox("older-names", edit_tensors=older_names),
    gpt_neox("base", "Model"),
    gpt_neox("classes", "ForSequenceClassification", config=CLASSES),
    bigcode("plain", config=dict(tie_word_embeddings=False), padding="left"),
    bigcode("own-key-heads", config=dict(multi_query=False, tie_word_embeddings=False, scale_attn_weights=False)),
    bigcode("base", "Model"),
    opt("plain", config=dict(tie_word_embeddings=False), padding="left"),
    opt("norms-after", config=dict(do_layer_norm_before=False, word_embed_proj_dim=32, tie_word_embeddings=False)),
    opt(
        "no-biases",
        config=dict(enable_bias=False, layer_norm_elementwise_affine=False, tie_word_embeddings=False),
        padding="left",
    ),
    opt("no-final-norm", config=dict(_remove_final_layer_norm=True, tie_word_embeddings=False)),
    opt("base", "Model", config=dict(word_embed_proj_dim=32)),
    opt("classes", "ForSequenceClassification", config=CLASSES | dict(pad_token_id=1), padding="left"),
]
