"""Linear attention: RWKV-4, -5, -6 and -7, RetNet and GLA."""

from safetensors_case import SafetensorsCase
from sequence_case import SequenceCase, Tensors

RWKV4 = dict(
    vocab_size=67,
    hidden_size=30,
    attention_hidden_size=30,
    intermediate_size=44,
    num_hidden_layers=2,
    context_length=64,
    bos_token_id=None,
    eos_token_id=None,
)
OFFICIAL = dict(n_layer=3, n_embd=24, vocab_size=67, dim_att=24, dim_ffn=36, ctx_len=64)
FLA = dict(
    hidden_size=24,
    intermediate_size=36,
    num_hidden_layers=2,
    vocab_size=67,
    hidden_act="swish",
    attn=None,
    attn_mode="chunk",
    bos_token_id=None,
    eos_token_id=None,
    fuse_norm=True,
    norm_eps=1e-6,
    tie_word_embeddings=False,
    use_cache=True,
)
RETENTION = FLA | dict(
    num_heads=4,
    num_kv_heads=None,
    elementwise_affine=True,
    feature_map=None,
    use_output_gate=True,
    use_short_conv=False,
    conv_size=4,
    max_position_embeddings=2048,
    hidden_ratio=4,
    fuse_swiglu=True,
)
RWKV = FLA | dict(hidden_act="sqrelu", norm_eps=1e-3, norm_first=True, norm_bias=True, hidden_ratio=None)
RWKV6 = RWKV | dict(num_heads=4, expand_k=0.5, expand_v=1.0, proj_low_rank_dim=5, gate_low_rank_dim=7)
RWKV7 = RWKV | dict(
    num_heads=None,
    head_dim=8,
    decay_low_rank_dim=7,
    a_low_rank_dim=6,
    v_low_rank_dim=3,
    gate_low_rank_dim=9,
    value_dim=[24, 24, 24],
    num_hidden_layers=3,
)


def without_first_values(tensors: Tensors) -> Tensors:
    """The first block without what it never uses."""
    return {name: tensor for name, tensor in tensors.items() if name[:-1] != "blocks.0.att.v"}


def rwkv4(name: str, head: str = "ForCausalLM", **fields) -> SafetensorsCase:
    """RWKV-4 as transformers stores it; with decays that last."""
    config = RWKV4 | fields.pop("config", {})
    factors = {"time_decay": -1.0, "time_mix": 8.0, "time_first": 0.5}
    return SafetensorsCase(name=f"rwkv4-{name}", model=f"Rwkv{head}", config=config, factors=factors, has_cache=False, **fields)


def official(name: str, **fields) -> SequenceCase:
    """RWKV-5, -6 or -7 as official files store it; the version is the name's."""
    size = dict(head_size=8) if name.startswith("rwkv7") else dict(head_size_a=8, head_size_divisor=8)
    config = dict(model_type=name[:5]) | OFFICIAL | size | fields.pop("config", {})
    fields = dict(lengths=(13, 13), file="model.pth") | fields
    return SequenceCase(name=name, model="RWKV", config=config, **fields)


def fla(name: str, model: str, base: dict, **fields) -> SequenceCase:
    """A model as flash-linear-attention stores it."""
    config = dict(model_type=model.lower()) | base | fields.pop("config", {})
    return SequenceCase(name=name, model=f"{model}ForCausalLM", config=config, **fields)


def retnet(name: str, **fields) -> SequenceCase:
    """RetNet."""
    base = RETENTION | dict(expand_k=1.0, expand_v=2.0, hidden_ratio=2)
    return fla(f"retnet-{name}", "RetNet", base, **fields)


def gla(name: str, **fields) -> SequenceCase:
    """GLA."""
    base = RETENTION | dict(expand_k=0.5, expand_v=1.0, clamp_min=None, use_gk=True, use_gv=False)
    return fla(f"gla-{name}", "GLA", base, **fields)


CASES = [
    rwkv4("plain", lengths=(13, 7, 1)),
    rwkv4("tied", config=dict(tie_word_embeddings=True, layer_norm_epsilon=0.01), padding="left"),
    rwkv4("rescaled", config=dict(num_hidden_layers=5, rescale_every=2, layer_norm_epsilon=0.02), padding="left"),
    rwkv4("base", "Model", padding="left"),
    official("rwkv7-pth"),
    official("rwkv7-bf16", dtype="bfloat16", edit_tensors=without_first_values),
    official("rwkv7-safetensors", dtype="float16", file="model.safetensors", config=dict(n_layer=2)),
    official("rwkv7-single", config=dict(n_layer=1, n_embd=20, dim_att=20, head_size=4), lengths=(5, 5, 5)),
    official("rwkv6-pth"),
    official("rwkv6-bf16", dtype="bfloat16", config=dict(n_embd=32, dim_att=32, head_size_a=16, n_layer=2)),
    official("rwkv6-safetensors", file="model.safetensors", config=dict(n_layer=2)),
    official("rwkv5-pth"),
    official("rwkv5-f16", dtype="float16", file="model.safetensors", config=dict(n_layer=2, head_size_a=6)),
    retnet("plain", lengths=(13, 7, 1), padding="left"),
    retnet("grouped", config=dict(num_kv_heads=2, feature_map="relu", expand_v=1.0)),
    retnet(
        "ungated",
        config=dict(use_output_gate=False, elementwise_affine=False, tie_word_embeddings=True, norm_eps=0.01),
    ),
    retnet("unfused", config=dict(fuse_norm=False, num_heads=2, feature_map="gelu"), dtype="bfloat16"),
    gla("plain", lengths=(13, 7, 1), padding="left"),
    gla("convolved", config=dict(use_short_conv=True, conv_size=3, num_kv_heads=2, clamp_min=-0.05), padding="left"),
    gla("ungated", config=dict(use_output_gate=False, feature_map="gelu", norm_eps=0.01, fuse_norm=False)),
    gla("tied", config=dict(tie_word_embeddings=True, use_short_conv=True, expand_k=1.0, feature_map="sqrelu")),
    fla("rwkv6-fla", "RWKV6", RWKV6, padding="left"),
    fla("rwkv6-fla-plain", "RWKV6", RWKV6 | dict(norm_first=False, norm_bias=False, expand_k=1.0, expand_v=2.0)),
    fla("rwkv7-fla", "RWKV7", RWKV7, padding="left"),
    fla(
        "rwkv7-fla-plain",
        "RWKV7",
        RWKV7 | dict(norm_first=False, norm_bias=False, fuse_norm=False, head_dim=None, num_heads=2),
        dtype="float16",
    ),
    fla("rwkv7-fla-wide", "RWKV7", RWKV7 | dict(value_dim=[48, 48], num_hidden_layers=2)),
]
