"""Sequence operations as plain loops in f64, and small random data for each.

Every function's arguments become `in.NAME` and its results `out.NAME` of `NAME.safetensors`: f32, and
I64 for integers and booleans. Scalars that are not tensors are constants of this module.
"""

import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray

CONV_STRIDE, CONV_PADDING, CONV_DILATION, CONV_GROUPS = (2, 3), (1, 0), (1, 2), 2
CROSS_ATTENTION_HEADS = 3
MOE_CHOSEN = 2


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: Array) -> Array:
    """x·σ(x)."""
    return x * sigmoid(x)


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def selective_scan(u: Array, delta: Array, A: Array, B: Array, C: Array, D: Array, z: Array) -> dict[str, Array]:
    """Mamba's recurrence (arXiv:2312.00752): h ← e^(δA)·h + δ·B·u, y = (C·h + D·u)·silu(z).

    `u`, `delta`, `z`: `[b, l, d]`; `A`: `[d, n]`; `B`, `C`: `[b, l, n]`; `D`: `[d]`. `delta` is positive
    already (after bias and softplus). Gives `y` `[b, l, d]` and the last `state` `[b, d, n]`.
    """
    batch, length, channels = u.shape
    y = np.zeros_like(u)
    state = np.zeros((batch, channels, A.shape[1]))
    for b in range(batch):
        for t in range(length):
            for d in range(channels):
                decay = np.exp(delta[b, t, d] * A[d])
                state[b, d] = decay * state[b, d] + delta[b, t, d] * B[b, t] * u[b, t, d]
                y[b, t, d] = (C[b, t] @ state[b, d] + D[d] * u[b, t, d]) * silu(z[b, t, d])
    return {"y": y, "state": state}


def rwkv4(w: Array, u: Array, k: Array, v: Array) -> dict[str, Array]:
    """RWKV-4's WKV (arXiv:2305.13048) with the running maximum that keeps it from overflowing.

    `w`: `[d]`, the decay added to the exponent at each step (negative, −e^time_decay); `u`: `[d]`, the
    bonus of the current token; `k`, `v`: `[b, l, d]`. Gives `y` `[b, l, d]` and the last `state`
    `[b, 3, d]`: numerator and denominator, both divided by e^maximum, and the maximum.
    """
    batch, length, channels = k.shape
    y = np.zeros_like(v)
    state = np.zeros((batch, 3, channels))
    state[:, 2] = -1e38
    for b in range(batch):
        for d in range(channels):
            numerator, denominator, maximum = state[b, :, d]
            for t in range(length):
                top = max(maximum, u[d] + k[b, t, d])
                past, now = np.exp(maximum - top), np.exp(u[d] + k[b, t, d] - top)
                y[b, t, d] = (past * numerator + now * v[b, t, d]) / (past * denominator + now)
                top = max(maximum + w[d], k[b, t, d])
                past, now = np.exp(maximum + w[d] - top), np.exp(k[b, t, d] - top)
                numerator = past * numerator + now * v[b, t, d]
                denominator = past * denominator + now
                maximum = top
            state[b, :, d] = numerator, denominator, maximum
    return {"y": y, "state": state}


def gated_delta_rule(q: Array, k: Array, v: Array, g: Array, beta: Array) -> dict[str, Array]:
    """The gated delta rule (arXiv:2412.06464): S ← e^g·S; S ← S + k (β(v − Sᵀk))ᵀ; o = Sᵀq/√d.

    `q`, `k`: `[b, l, h, d]`, scaled to unit length here (ε = 1e-6 under the root); `v`: `[b, l, h, e]`;
    `g` (log decay), `beta`: `[b, l, h]`. Gives `o` `[b, l, h, e]` and the last `state` `[b, h, d, e]`.
    """
    batch, length, heads, width = q.shape
    q = q / np.sqrt((q * q).sum(axis=-1, keepdims=True) + 1e-6)
    k = k / np.sqrt((k * k).sum(axis=-1, keepdims=True) + 1e-6)
    o = np.zeros_like(v)
    state = np.zeros((batch, heads, width, v.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            s = state[b, h]
            for t in range(length):
                s *= np.exp(g[b, t, h])
                error = v[b, t, h] - s.T @ k[b, t, h]
                s += np.outer(k[b, t, h], beta[b, t, h] * error)
                o[b, t, h] = s.T @ q[b, t, h] / np.sqrt(width)
    return {"o": o, "state": state}


def retention(q: Array, k: Array, v: Array, gamma: Array) -> dict[str, Array]:
    """Retention (arXiv:2307.08621) in its parallel form, without rotary: o = ((q kᵀ/√d) ⊙ D) v, D = γ^(t−s).

    `q`, `k`: `[b, l, h, d]`; `v`: `[b, l, h, e]`; `gamma`: `[h]`. Gives `o` `[b, l, h, e]` and the
    `state` `[b, h, d, e]` that the recurrent form has after the last step, Σ γ^(l−1−s) k_s v_sᵀ.
    """
    batch, length, heads, width = q.shape
    o = np.zeros_like(v)
    state = np.zeros((batch, heads, width, v.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            for t in range(length):
                for s in range(t + 1):
                    score = q[b, t, h] @ k[b, s, h] / np.sqrt(width)
                    o[b, t, h] += gamma[h] ** (t - s) * score * v[b, s, h]
                state[b, h] = gamma[h] * state[b, h] + np.outer(k[b, t, h], v[b, t, h])
    return {"o": o, "state": state}


def fft_conv(u: Array, k: Array, D: Array) -> dict[str, Array]:
    """A causal convolution as long as the sequence: y_t = Σ_{s≤t} k_{t−s} u_s + D u_t.

    `u`: `[b, d, l]`; `k`: `[d, l]`; `D`: `[d]`. Gives `y` `[b, d, l]`.
    """
    batch, channels, length = u.shape
    y = np.zeros_like(u)
    for b in range(batch):
        for d in range(channels):
            for t in range(length):
                y[b, d, t] = D[d] * u[b, d, t] + sum(k[d, t - s] * u[b, d, s] for s in range(t + 1))
    return {"y": y}


def moe_top2(x: Array, router: Array, gate: Array, up: Array, down: Array) -> dict[str, Array]:
    """Mixture of SwiGLU experts: the two with the largest router logits, weighted by the softmax over these two.

    `x`: `[t, h]`; `router`: `[e, h]`; `gate`, `up`: `[e, f, h]`; `down`: `[e, h, f]`. Gives `y` `[t, h]`,
    `experts` `[t, 2]` (largest logit first) and their `weights` `[t, 2]`.
    """
    y = np.zeros_like(x)
    experts = np.zeros((len(x), MOE_CHOSEN), np.int64)
    weights = np.zeros((len(x), MOE_CHOSEN))
    for t in range(len(x)):
        logits = router @ x[t]
        experts[t] = np.argsort(-logits)[:MOE_CHOSEN]
        weights[t] = softmax(logits[experts[t]])
        for expert, weight in zip(experts[t], weights[t]):
            hidden = silu(gate[expert] @ x[t]) * (up[expert] @ x[t])
            y[t] += weight * (down[expert] @ hidden)
    return {"y": y, "experts": experts, "weights": weights}


def conv2d_strided(x: Array, w: Array, bias: Array) -> dict[str, Array]:
    """A two-dimensional convolution with the stride, padding, dilation and groups of this module's constants.

    `x`: `[n, c, h, w]`; `w`: `[o, c/groups, kh, kw]`; `bias`: `[o]`. Gives `y` `[n, o, oh, ow]`.
    """
    (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w) = CONV_STRIDE, CONV_PADDING, CONV_DILATION
    images, _, height, width = x.shape
    outputs, group_channels, kernel_h, kernel_w = w.shape
    out_h = (height + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (width + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    y = np.zeros((images, outputs, out_h, out_w))
    for n in range(images):
        for o in range(outputs):
            group = o // (outputs // CONV_GROUPS)
            for i in range(out_h):
                for j in range(out_w):
                    total = bias[o]
                    for c in range(group_channels):
                        for a in range(kernel_h):
                            for b in range(kernel_w):
                                row, column = i * stride_h + a * dilation_h, j * stride_w + b * dilation_w
                                total += w[o, c, a, b] * padded[n, group * group_channels + c, row, column]
                    y[n, o, i, j] = total
    return {"y": y}


def cross_attention(
    x: Array, memory: Array, memory_mask: Array, wq: Array, wk: Array, wv: Array, wo: Array
) -> dict[str, Array]:
    """Attention of `x` to `memory`, over the positions that `memory_mask` allows, with `CROSS_ATTENTION_HEADS` heads.

    `x`: `[b, s, h]`; `memory`: `[b, t, h]`; `memory_mask`: `[b, t]`, 1 is seen; weights `[h, h]` as
    `[out, in]`. Gives `y` `[b, s, h]`.
    """
    batch, length, hidden = x.shape
    width = hidden // CROSS_ATTENTION_HEADS
    y = np.zeros_like(x)
    for b in range(batch):
        q, k, v = x[b] @ wq.T, memory[b] @ wk.T, memory[b] @ wv.T
        seen = np.flatnonzero(memory_mask[b])
        mixed = np.zeros((length, hidden))
        for head in range(CROSS_ATTENTION_HEADS):
            part = slice(head * width, (head + 1) * width)
            for s in range(length):
                weights = softmax(k[seen, part] @ q[s, part] / np.sqrt(width))
                mixed[s, part] = weights @ v[seen, part]
        y[b] = mixed @ wo.T
    return {"y": y}


def selective_scan_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, l = 9, d = 5, n = 4."""
    normal = generator.normal
    return dict(
        u=normal(size=(2, 9, 5)),
        delta=generator.uniform(0.05, 1.0, (2, 9, 5)),
        A=-generator.uniform(0.2, 4.0, (5, 4)),
        B=normal(size=(2, 9, 4)),
        C=normal(size=(2, 9, 4)),
        D=normal(size=5),
        z=normal(size=(2, 9, 5)),
    )


def rwkv4_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, l = 11, d = 6; some keys are so large that e^k overflows f32."""
    k = generator.normal(size=(2, 11, 6)) * 2.0
    k[:, 3::5] += 95.0
    return dict(
        w=-generator.uniform(0.05, 3.0, 6),
        u=generator.normal(size=6),
        k=k,
        v=generator.normal(size=(2, 11, 6)),
    )


def gated_delta_rule_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, l = 10, h = 3, d = 4, e = 6."""
    normal = generator.normal
    return dict(
        q=normal(size=(2, 10, 3, 4)),
        k=normal(size=(2, 10, 3, 4)),
        v=normal(size=(2, 10, 3, 6)),
        g=-generator.uniform(0.01, 1.5, (2, 10, 3)),
        beta=generator.uniform(0.05, 0.95, (2, 10, 3)),
    )


def retention_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, l = 9, h = 3, d = 4, e = 5."""
    normal = generator.normal
    return dict(
        q=normal(size=(2, 9, 3, 4)),
        k=normal(size=(2, 9, 3, 4)),
        v=normal(size=(2, 9, 3, 5)),
        gamma=1.0 - 2.0 ** (-2.0 - np.arange(3)),
    )


def fft_conv_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, d = 3, l = 37: no power of two, so that a transform must pad."""
    decay = np.exp(-np.arange(37) / 12.0)
    return dict(
        u=generator.normal(size=(2, 3, 37)),
        k=generator.normal(size=(3, 37)) * decay,
        D=generator.normal(size=3),
    )


def moe_top2_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """t = 7, h = 6, e = 5, f = 8."""
    normal = generator.normal
    return dict(
        x=normal(size=(7, 6)),
        router=normal(size=(5, 6)),
        gate=normal(size=(5, 8, 6)) * 0.5,
        up=normal(size=(5, 8, 6)) * 0.5,
        down=normal(size=(5, 6, 8)) * 0.5,
    )


def conv2d_strided_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """n = 2, c = 4, 9×11 pixels, o = 6, 3×2 taps."""
    normal = generator.normal
    return dict(x=normal(size=(2, 4, 9, 11)), w=normal(size=(6, 2, 3, 2)), bias=normal(size=6))


def cross_attention_inputs(generator: np.random.Generator) -> dict[str, Array]:
    """b = 2, s = 5, t = 7, h = 12; masks with holes and with padding."""
    normal = generator.normal
    return dict(
        x=normal(size=(2, 5, 12)),
        memory=normal(size=(2, 7, 12)),
        memory_mask=np.array([[1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 0, 0]]),
        wq=normal(size=(12, 12)) * 0.4,
        wk=normal(size=(12, 12)) * 0.4,
        wv=normal(size=(12, 12)) * 0.4,
        wo=normal(size=(12, 12)) * 0.4,
    )


OPS = {
    selective_scan: selective_scan_inputs,
    rwkv4: rwkv4_inputs,
    gated_delta_rule: gated_delta_rule_inputs,
    retention: retention_inputs,
    fft_conv: fft_conv_inputs,
    moe_top2: moe_top2_inputs,
    conv2d_strided: conv2d_strided_inputs,
    cross_attention: cross_attention_inputs,
}


def write_all(folder: Path) -> None:
    """Write every operation's file."""
    folder.mkdir(parents=True, exist_ok=True)
    for op, make_inputs in OPS.items():
        generator = np.random.default_rng(zlib.crc32(op.__name__.encode()))
        inputs = {name: stored(value) for name, value in make_inputs(generator).items()}
        outputs = op(**{name: value.astype(np.float64) for name, value in inputs.items()})
        tensors = {f"in.{name}": value for name, value in inputs.items()}
        tensors |= {f"out.{name}": stored(value) for name, value in outputs.items()}
        path = folder / f"{op.__name__}.safetensors"
        save_file(tensors, path)
        path.chmod(0o644)


def stored(values: Array) -> Array:
    """Values as they are stored: I64 or f32."""
    return values.astype(np.int64 if values.dtype.kind in "iub" else np.float32)
