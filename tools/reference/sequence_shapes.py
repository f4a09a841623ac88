"""Names and shapes of the tensors of RetNet, GLA and RWKV."""

from case import Config

Shape = tuple[int, ...]


def shapes(config: Config) -> dict[str, Shape]:
    """All tensors of a checkpoint, by name."""
    if config["architectures"] == ["RWKV"]:
        return official(config)
    c, vocab = config["hidden_size"], config["vocab_size"]
    found = {"model.embeddings.weight": (vocab, c), "model.norm.weight": (c,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (vocab, c)
    kind = config["model_type"]
    is_rwkv = kind.startswith("rwkv")
    biased = is_rwkv and config["norm_bias"]
    second = "ffn" if is_rwkv else "mlp"
    of_layer = {"retnet": retention, "gla": retention, "rwkv6": rwkv6, "rwkv7": rwkv7}[kind]
    for i in range(config["num_hidden_layers"]):
        norms = ["attn_norm", f"{second}_norm"] + (["pre_norm"] if is_rwkv and i == 0 and config["norm_first"] else [])
        layer = {f"{norm}.weight": (c,) for norm in norms}
        layer |= {f"{norm}.bias": (c,) for norm in norms if biased}
        layer |= of_layer(config, i)
        found |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    if biased:
        found["model.norm.bias"] = (c,)
    return found


def retention(config: Config, _: int) -> dict[str, Shape]:
    """A layer of RetNet or GLA."""
    c, f, heads = config["hidden_size"], config["intermediate_size"], config["num_heads"]
    groups = heads // (config["num_kv_heads"] or heads)
    keys, values = round(c * config["expand_k"]), round(c * config["expand_v"])
    widths = {"q": keys, "k": keys // groups, "v": values // groups}
    if config["use_output_gate"]:
        widths["g"] = values
    found = {f"attn.{letter}_proj.weight": (width, c) for letter, width in widths.items()}
    found["attn.o_proj.weight"] = (c, values)
    if config["elementwise_affine"]:
        is_fused = config["use_output_gate"] and config["fuse_norm"]
        found[f"attn.{'g_norm_swish_gate' if is_fused else 'g_norm'}.weight"] = (values // heads,)
    if config["model_type"] == "gla":
        found |= {"attn.gk_proj.0.weight": (16, c), "attn.gk_proj.1.weight": (widths["k"], 16)}
        found["attn.gk_proj.1.bias"] = (widths["k"],)
        if config["use_short_conv"]:
            found |= {f"attn.{s}_conv1d.weight": (widths[s], 1, config["conv_size"]) for s in "qkv"}
    return found | {"mlp.gate_proj.weight": (f, c), "mlp.up_proj.weight": (f, c), "mlp.down_proj.weight": (c, f)}


def rwkv6(config: Config, _: int) -> dict[str, Shape]:
    """A layer of RWKV-6 in flash-linear-attention's names."""
    c, f, heads = config["hidden_size"], config["intermediate_size"], config["num_heads"]
    keys, values = round(c * config["expand_k"]), round(c * config["expand_v"])
    r, d = config["proj_low_rank_dim"], config["gate_low_rank_dim"]
    return {
        "attn.x_bias": (5, c),
        "attn.bonus": (heads, keys // heads),
        "attn.x_proj.0.mu": (c,),
        "attn.x_proj.0.linear.weight": (5 * r, c),
        "attn.x_proj.2.weight": (c, 5 * r),
        "attn.r_proj.linear.weight": (keys, c),
        "attn.k_proj.linear.weight": (keys, c),
        "attn.v_proj.linear.weight": (values, c),
        "attn.g_proj.linear.weight": (values, c),
        "attn.w_proj.linear.lora.0.weight": (d, c),
        "attn.w_proj.linear.lora.2.weight": (keys, d),
        "attn.w_proj.linear.lora.2.bias": (keys,),
        "attn.g_norm.weight": (values,),
        "attn.g_norm.bias": (values,),
        "attn.o_proj.weight": (c, values),
        "ffn.key.mu": (c,),
        "ffn.key.linear.weight": (f, c),
        "ffn.value.weight": (c, f),
        "ffn.receptance.mu": (c,),
        "ffn.receptance.linear.weight": (c, c),
    }


def rwkv7(config: Config, layer: int) -> dict[str, Shape]:
    """A layer of RWKV-7 in flash-linear-attention's names."""
    c, f = config["hidden_size"], config["intermediate_size"]
    n = config["head_dim"] or c // config["num_heads"]
    values = config["value_dim"][layer]
    ranks = {"w": ("decay", c), "a": ("a", c), "v": ("v", values), "g": ("gate", values)}
    found = {f"attn.x_{s}": (1, 1, c) for s in "rwkvag"}
    found |= {"attn.k_k": (c,), "attn.k_a": (c,), "attn.r_k": (c // n, n)}
    found |= {"attn.r_proj.weight": (c, c), "attn.k_proj.weight": (c, c)}
    found |= {"attn.v_proj.weight": (values, c), "attn.o_proj.weight": (c, values)}
    for letter, (key, width) in ranks.items():
        if letter == "v" and layer == 0:
            continue
        rank, name = config[f"{key}_low_rank_dim"], f"attn.{letter}_lora.lora"
        found |= {f"{name}.0.weight": (rank, c), f"{name}.2.weight": (width, rank)}
        if letter != "g":
            found[f"{name}.2.bias"] = (width,)
    found |= {"attn.g_norm.weight": (values,), "attn.g_norm.bias": (values,)}
    return found | {"ffn.x_k": (c,), "ffn.key.weight": (f, c), "ffn.value.weight": (c, f)}


def official(config: Config) -> dict[str, Shape]:
    """RWKV-5, -6 or -7 in the names of the official files."""
    c, f, vocab, version = config["n_embd"], config["dim_ffn"], config["vocab_size"], int(config["model_type"][-1])
    n = config["head_size" if version == 7 else "head_size_a"]
    row, heads = (1, 1, c), (c // n, n)
    found = {"emb.weight": (vocab, c), "head.weight": (vocab, c)}
    norms = ["blocks.0.ln0", "ln_out"]
    for i in range(config["n_layer"]):
        block = f"blocks.{i}."
        norms += [f"{block}{name}" for name in ("ln1", "ln2", "att.ln_x")]
        square = ["att.receptance", "att.key", "att.value", "att.output"]
        if version < 7:
            square += ["att.gate", "ffn.receptance"]
        layer = {f"{name}.weight": (c, c) for name in square}
        layer |= {"ffn.key.weight": (f, c), "ffn.value.weight": (c, f)}
        if version == 5:
            layer |= {f"att.time_mix_{s}": row for s in "kvrg"} | {f"ffn.time_mix_{s}": row for s in "kr"}
            layer |= {"att.time_decay": heads, "att.time_faaaa": heads}
        elif version == 6:
            layer |= {f"att.time_maa_{s}": row for s in "xwkvrg"} | {f"ffn.time_maa_{s}": row for s in "kr"}
            layer |= {"att.time_maa_w1": (c, 5 * MIX_RANK), "att.time_maa_w2": (5, MIX_RANK, c)}
            layer |= {"att.time_decay": row, "att.time_decay_w1": (c, RANKS["w"])}
            layer |= {"att.time_decay_w2": (RANKS["w"], c), "att.time_faaaa": heads}
        else:
            layer |= {f"att.x_{s}": row for s in "rwkvag"} | {"ffn.x_k": row}
            layer |= {"att.k_k": row, "att.k_a": row, "att.r_k": heads}
            for letter, rank in RANKS.items():
                layer |= {f"att.{letter}1": (c, rank), f"att.{letter}2": (rank, c)}
                if letter != "g":
                    layer[f"att.{letter}0"] = row
        found |= {block + name: shape for name, shape in layer.items()}
    return found | {f"{norm}.{part}": (c,) for norm in norms for part in ("weight", "bias")}


MIX_RANK = 5
RANKS = {"w": 7, "a": 6, "v": 3, "g": 9}
