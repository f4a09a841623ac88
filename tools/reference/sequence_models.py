"""RetNet, GLA and RWKV-5, -6 and -7 as loops over time in f64, for models that transformers does not have.

Written from the papers and the published code, one token after another: arXiv:2307.08621, arXiv:2312.06635,
arXiv:2404.05892, arXiv:2503.14456. `package_check.py` compares them with the packages.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
Config = dict
Mixer = Callable[[str, Tensor, int], Tensor]

HEAD_EPS = 64e-5
CONVOLVED = "qkv"
FEATURE_MAPS = {
    None: lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "sqrelu": lambda x: torch.relu(x) ** 2,
    "relu2": lambda x: torch.relu(x) ** 2,
}
# RetNet takes functions by transformers' names, GLA by those of its package.
GELU = {"retnet": F.gelu, "gla": lambda x: F.gelu(x, approximate="tanh")}


def logits(config: Config, weights: Weights, ids: Tensor) -> Tensor:
    """Scores `[b, t, vocab]` of the token after each of `ids: [b, t]`."""
    return Model(config, {name: tensor.double() for name, tensor in weights.items()}).logits(ids)


def shift(x: Tensor) -> Tensor:
    """The vector before each of `[b, t, n]`."""
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


def rms(x: Tensor, eps: float, weight: Tensor | float = 1.0) -> Tensor:
    """Root-mean-square norm."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def attend(r: Tensor, w: Tensor, k: Tensor, v: Tensor, bonus: Tensor | None = None) -> Tensor:
    """`S ← diag(w)·S + k·vᵀ` over `[b, t, h, n]`, read by r after its own token, or before it and with a bonus."""
    state = torch.zeros(*k.shape[:1], *k.shape[2:], v.shape[-1], dtype=k.dtype)
    out = []
    for t in range(k.shape[1]):
        pair = k[:, t, :, :, None] * v[:, t, :, None, :]
        after = w[:, t, :, :, None] * state + pair
        seen = after if bonus is None else state + bonus[..., None] * pair
        out.append(torch.einsum("bhk,bhkv->bhv", r[:, t], seen))
        state = after
    return torch.stack(out, 1)


def attend_corrected(r: Tensor, w: Tensor, k: Tensor, v: Tensor, kappa: Tensor, a: Tensor) -> Tensor:
    """RWKV-7's `S ← S·diag(w) - (S·κ)(κ⊙a)ᵀ + v·kᵀ`, read by r after its own token."""
    state = torch.zeros(*k.shape[:1], k.shape[2], v.shape[-1], k.shape[-1], dtype=k.dtype)
    out = []
    for t in range(k.shape[1]):
        answer = torch.einsum("bhvk,bhk->bhv", state, kappa[:, t])
        corrected = state * w[:, t, :, None, :] - answer[..., None] * (kappa[:, t] * a[:, t])[:, :, None, :]
        state = corrected + v[:, t, :, :, None] * k[:, t, :, None, :]
        out.append(torch.einsum("bhvk,bhk->bhv", state, r[:, t]))
    return torch.stack(out, 1)


class Model:
    """A config and weights, under either naming."""

    def __init__(self, config: Config, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.official = "emb.weight" in weights
        self.kind = config["model_type"]
        self.eps = 1e-5 if self.official else config["norm_eps"]
        self.first_values: Tensor | None = None

    def get(self, name: str) -> Tensor:
        return self.weights[name]

    def linear(self, name: str, x: Tensor) -> Tensor:
        bias = self.weights.get(f"{name}.bias")
        return F.linear(x, self.get(f"{name}.weight"), bias)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.get(f"{name}.weight")
        if self.kind in ("retnet", "gla"):
            return rms(x, self.eps, weight)
        return F.layer_norm(x, x.shape[-1:], weight, self.weights.get(f"{name}.bias"), self.eps)

    def heads(self, x: Tensor, count: int) -> Tensor:
        return x.reshape(*x.shape[:2], count, -1)

    def logits(self, ids: Tensor) -> Tensor:
        """See `logits` above."""
        if self.official:
            names = ("emb.weight", "blocks.", "blocks.0.ln0", ("ln1", "att", "ln2", "ffn"), "ln_out", "head.weight")
        else:
            second = "mlp" if self.kind in ("retnet", "gla") else "ffn"
            parts = ("attn_norm", "attn", f"{second}_norm", second)
            table = "model.embeddings.weight"
            head = table if self.config["tie_word_embeddings"] else "lm_head.weight"
            names = (table, "model.layers.", "model.layers.0.pre_norm", parts, "model.norm", head)
        table, layers, before, (norm1, mixer, norm2, perceptron), last, head = names
        x = self.get(table)[ids]
        if f"{before}.weight" in self.weights:
            x = self.norm(before, x)
        for i in range(self.config["n_layer" if self.official else "num_hidden_layers"]):
            layer = f"{layers}{i}."
            x = x + self.mixer(f"{layer}{mixer}.", self.norm(layer + norm1, x), i)
            x = x + self.perceptron(f"{layer}{perceptron}.", self.norm(layer + norm2, x))
        return F.linear(self.norm(last, x), self.get(head))

    def mixer(self, scope: str, x: Tensor, layer: int) -> Tensor:
        if self.kind in ("retnet", "gla"):
            return self.retention(scope, x)
        if self.kind == "rwkv7":
            return self.rwkv7(scope, x, layer)
        return self.rwkv6(scope, x)

    def perceptron(self, scope: str, x: Tensor) -> Tensor:
        if self.kind in ("retnet", "gla"):
            gate, up = self.linear(f"{scope}gate_proj", x), self.linear(f"{scope}up_proj", x)
            return self.linear(f"{scope}down_proj", F.silu(gate) * up)
        d = shift(x) - x
        if self.kind == "rwkv7":
            k = self.linear(f"{scope}key", x + d * self.get(f"{scope}x_k").flatten())
            return self.linear(f"{scope}value", torch.relu(k) ** 2)
        if self.official:
            mix = {"rwkv5": "time_mix_{}", "rwkv6": "time_maa_{}"}[self.kind]
            mu = [self.get(scope + mix.format(letter)).flatten() for letter in "kr"]
            mu = [1 - m for m in mu] if self.kind == "rwkv5" else mu
            layers = ("key", "receptance")
        else:
            mu = [self.get(f"{scope}{name}.mu") for name in ("key", "receptance")]
            layers = ("key.linear", "receptance.linear")
        k, r = (self.linear(scope + name, x + d * m) for name, m in zip(layers, mu))
        return torch.sigmoid(r) * self.linear(f"{scope}value", torch.relu(k) ** 2)

    def retention(self, scope: str, x: Tensor) -> Tensor:
        config = self.config
        heads = config["num_heads"]
        kv_heads = config["num_kv_heads"] or heads
        parts = {}
        for letter in CONVOLVED:
            part = self.linear(f"{scope}{letter}_proj", x)
            if self.kind == "gla" and config["use_short_conv"]:
                taps = self.get(f"{scope}{letter}_conv1d.weight")
                padded = F.pad(part.mT, (taps.shape[-1] - 1, 0))
                part = F.silu(F.conv1d(padded, taps, groups=taps.shape[0]).mT)
            parts[letter] = self.heads(part, heads if letter == "q" else kv_heads)
        q, k, v = parts.values()
        name = config["feature_map"]
        q, k = map(GELU[self.kind] if name == "gelu" else FEATURE_MAPS[name], (q, k))
        if self.kind == "retnet":
            q, k = turned(q), turned(k)
            gamma = 1 - 2.0 ** (-5 - torch.arange(heads, dtype=x.dtype))
            decay = gamma[:, None].expand(*q.shape)
        else:
            gate = self.linear(f"{scope}gk_proj.1", self.linear(f"{scope}gk_proj.0", x))
            log_decay = F.logsigmoid(self.heads(gate, kv_heads)) / 16
            if config["clamp_min"] is not None:
                log_decay = log_decay.clamp(min=config["clamp_min"])
            decay = log_decay.exp().repeat_interleave(heads // kv_heads, 2)
        k, v = (part.repeat_interleave(heads // kv_heads, 2) for part in (k, v))
        o = attend(q * q.shape[-1] ** -0.5, decay, k, v)
        fused = config["use_output_gate"] and config["fuse_norm"]
        weight = self.weights.get(f"{scope}{'g_norm_swish_gate' if fused else 'g_norm'}.weight", 1.0)
        o = rms(o, self.eps, weight).flatten(2)
        if config["use_output_gate"]:
            o = o * F.silu(self.linear(f"{scope}g_proj", x))
        return self.linear(f"{scope}o_proj", o)

    def group_norm(self, name: str, o: Tensor, eps: float) -> Tensor:
        normal = F.layer_norm(o, o.shape[-1:], eps=eps).flatten(2)
        return normal * self.get(f"{name}.weight") + self.get(f"{name}.bias")

    def rwkv6(self, scope: str, x: Tensor) -> Tensor:
        d = shift(x) - x
        heads = self.get(scope + ("time_faaaa" if self.official else "bonus")).shape[0]
        if self.kind == "rwkv5":
            mixed = {s: x + d * (1 - self.get(f"{scope}time_mix_{s}").flatten()) for s in "kvrg"}
            decay = self.get(f"{scope}time_decay").expand(*x.shape[:2], -1, -1)
        elif self.official:
            low = torch.tanh((x + d * self.get(f"{scope}time_maa_x").flatten()) @ self.get(f"{scope}time_maa_w1"))
            ups = zip("wkvrg", low.chunk(5, -1), self.get(f"{scope}time_maa_w2"))
            mixed = {s: x + d * (self.get(f"{scope}time_maa_{s}").flatten() + z @ up) for s, z, up in ups}
            inner = torch.tanh(mixed["w"] @ self.get(f"{scope}time_decay_w1"))
            decay = self.get(f"{scope}time_decay").flatten() + inner @ self.get(f"{scope}time_decay_w2")
        else:
            low = torch.tanh(self.linear(f"{scope}x_proj.0.linear", x + d * self.get(f"{scope}x_proj.0.mu")))
            ups = zip("rwkvg", low.chunk(5, -1), self.get(f"{scope}x_proj.2.weight").chunk(5, -1), strict=True)
            bias = dict(zip("rwkvg", self.get(f"{scope}x_bias")))
            mixed = {s: x + d * (bias[s] + z @ up.T) for s, z, up in ups}
            inner = torch.tanh(self.linear(f"{scope}w_proj.linear.lora.0", mixed["w"]))
            decay = self.linear(f"{scope}w_proj.linear.lora.2", inner)
        if self.official:
            layers = dict(r="receptance", k="key", v="value", g="gate", o="output")
            bonus, norm, eps = "time_faaaa", "ln_x", HEAD_EPS
        else:
            layers = {s: f"{s}_proj.linear" for s in "rkvg"} | {"o": "o_proj"}
            bonus, norm, eps = "bonus", "g_norm", self.eps
        r, k, v = (self.heads(self.linear(scope + layers[s], mixed[s]), heads) for s in "rkv")
        g = F.silu(self.linear(scope + layers["g"], mixed["g"]))
        decay = decay if decay.dim() == 4 else self.heads(decay, heads)
        o = attend(r, torch.exp(-torch.exp(decay)), k, v, self.get(scope + bonus))
        return self.linear(scope + layers["o"], self.group_norm(scope + norm, o, eps) * g)

    def low_rank(self, scope: str, letter: str, x: Tensor, f: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        if self.official:
            bias = self.weights.get(f"{scope}{letter}0")
            result = f(x @ self.get(f"{scope}{letter}1")) @ self.get(f"{scope}{letter}2")
            return result if bias is None else result + bias.flatten()
        return self.linear(f"{scope}{letter}_lora.lora.2", f(self.linear(f"{scope}{letter}_lora.lora.0", x)))

    def rwkv7(self, scope: str, x: Tensor, layer: int) -> Tensor:
        d = shift(x) - x
        mixed = {s: x + d * self.get(f"{scope}x_{s}").flatten() for s in "rwkvag"}
        if self.official:
            layers = dict(r="receptance", k="key", v="value", o="output")
            norm, eps = "ln_x", HEAD_EPS
        else:
            layers = {s: f"{s}_proj" for s in "rkvo"}
            norm, eps = "g_norm", None
        r, k, v = (self.linear(scope + layers[s], mixed[s]) for s in "rkv")
        if layer == 0:
            self.first_values = v
        else:
            v = v + (self.first_values - v) * torch.sigmoid(self.low_rank(scope, "v", mixed["v"]))
        decay = torch.exp(-(-0.5 * torch.ones((), dtype=x.dtype)).exp() * torch.sigmoid(
            self.low_rank(scope, "w", mixed["w"], torch.tanh)
        ))
        a = torch.sigmoid(self.low_rank(scope, "a", mixed["a"]))
        g = self.low_rank(scope, "g", mixed["g"], torch.sigmoid)
        bonus = self.get(f"{scope}r_k")
        heads, width = bonus.shape
        kappa = self.heads(k * self.get(f"{scope}k_k").flatten(), heads)
        squares = kappa.square().sum(-1, keepdim=True)
        if self.official or not self.config["fuse_norm"]:
            kappa = kappa / squares.sqrt().clamp(min=1e-12)
        else:
            kappa = kappa / (squares + 1e-6).sqrt()
        k = k * (1 + (a - 1) * self.get(f"{scope}k_a").flatten())
        r, k, v, decay, a = (self.heads(part, heads) for part in (r, k, v, decay, a))
        o = attend_corrected(r, decay, k, v, kappa, a)
        own = (r * k * bonus).sum(-1, keepdim=True) * v
        eps = eps or width * self.eps
        return self.linear(scope + layers["o"], (self.group_norm(scope + norm, o, eps) + own.flatten(2)) * g)


def turned(x: Tensor) -> Tensor:
    """Rotary positions on `[b, t, h, k]`, halves as pairs."""
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None, None] * frequencies
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()], -1)
