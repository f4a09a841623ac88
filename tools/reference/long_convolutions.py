"""HyenaDNA and S4 as their mathematics says, in f64: convolutions are sums over pairs of places.

Sources: HazyResearch `hyena-dna` (`standalone_hyenadna.py`), state-spaces `s4` (`models/s4/s4.py`, `s4d.py`).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

Tensors = dict[str, torch.Tensor]
SHIFT = 0.05


def scope(tensors: Tensors, prefix: str) -> Callable[[str], torch.Tensor]:
    """The tensors below a prefix."""
    return lambda name: tensors[f"{prefix}{name}"]


def layer_norm(tensors: Tensors, name: str, x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """A norm with weight and bias."""
    return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)


def dense(tensors: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    """A dense layer with the bias that it has."""
    return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def causal(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """`y_t = Σ_{s ≤ t} k_{t-s} x_s` of `x: [b, t, c]` with `kernel: [c, t]`."""
    places = torch.arange(x.shape[1])
    distance = places[:, None] - places[None, :]
    taps = kernel[:, distance.clamp(min=0)] * (distance >= 0)
    return torch.einsum("cts,bsc->btc", taps, x)


class HyenaDNA(PreTrainedModel, GenerationMixin):
    """HyenaDNA with tensors by name, f64."""

    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig, tensors: Tensors) -> None:
        """Take the stored tensors."""
        super().__init__(config)
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs) -> dict:
        """The whole text, always."""
        return {"input_ids": input_ids}

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_) -> CausalLMOutput:
        """Logits of every token, or of every label, whatever the mask."""
        tensors, config = self.tensors, self.config
        prefix = "hyena.backbone."
        x = tensors[f"{prefix}embeddings.word_embeddings.weight"][input_ids]
        for layer in range(config.n_layer):
            name = f"{prefix}layers.{layer}."
            x = x + self.mixer(f"{name}mixer.", layer_norm(tensors, f"{name}norm1", x))
            inner = F.gelu(dense(tensors, f"{name}mlp.fc1", layer_norm(tensors, f"{name}norm2", x)), approximate="tanh")
            x = x + dense(tensors, f"{name}mlp.fc2", inner)
        x = layer_norm(tensors, f"{prefix}ln_f", x, config.layer_norm_epsilon)
        if "lm_head.weight" in tensors:
            return CausalLMOutput(logits=dense(tensors, "lm_head", x).float())
        rows = torch.arange(len(input_ids))
        pads = input_ids == config.pad_token_id if config.pad_token_id is not None else torch.zeros_like(input_ids)
        return CausalLMOutput(logits=dense(tensors, "score", x)[rows, pads.long().argmax(-1) - 1].float())

    def mixer(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """Gates around a long convolution."""
        of = scope(self.tensors, name)
        u, taps = dense(self.tensors, f"{name}in_proj", y).transpose(1, 2), of("short_filter.weight")
        u = F.conv1d(F.pad(u, (taps.shape[-1] - 1, 0)), taps, of("short_filter.bias"), groups=u.shape[1])
        gate, first, v = u.transpose(1, 2).chunk(3, -1)
        s = v * first
        mixed = causal(s, self.filters(f"{name}filter_fn.", y.shape[1])) + of("filter_fn.bias") * s
        return dense(self.tensors, f"{name}out_proj", mixed * gate)

    def filters(self, name: str, length: int) -> torch.Tensor:
        """Filters `[c, length]` by the perceptron of the place."""
        of, config = scope(self.tensors, name), self.config
        layers = config.num_inner_mlps
        freqs = [of(f"implicit_filter.{2 * j + 1}.freq") for j in range(layers + 1) if f"{name}implicit_filter.{2 * j + 1}.freq" in self.tensors]
        freq = freqs[0] if config.train_freq else config.activation_freq
        h = of("pos_emb.z")[0, :length]
        for layer in range(layers + 1):
            h = torch.sin(freq * dense(self.tensors, f"{name}implicit_filter.{2 * layer}", h))
        k = dense(self.tensors, f"{name}implicit_filter.{2 * layers + 2}", h)
        decay = torch.exp(-of("pos_emb.t")[0, :length] * of("modulation.deltas")[0].abs())
        return (k * (decay + SHIFT)).T


POSITIVE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "none": lambda x: x,
    "relu": lambda x: torch.relu(x) + 1e-4,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
}


def complex_of(x: torch.Tensor) -> torch.Tensor:
    """Complex numbers whose parts are the last axis."""
    return torch.complex(x[..., 0], x[..., 1])


def s4d_kernel(of: Callable[[str], torch.Tensor], length: int) -> torch.Tensor:
    """The kernels `[1, c, length]` of the minimal S4D."""
    dt = torch.exp(of("kernel.log_dt"))[:, None]
    a = torch.complex(-torch.exp(of("kernel.log_A_real")), of("kernel.A_imag"))
    return powers(complex_of(of("kernel.C"))[None] * (torch.exp(dt * a) - 1) / a, torch.exp(dt * a), length)


def powers(read: torch.Tensor, base: torch.Tensor, length: int) -> torch.Tensor:
    """`2 Re Σ_n read_n base_nˡ`."""
    taps = []
    for _ in range(length):
        taps.append(2 * read.sum(-1).real)
        read = read * base
    return torch.stack(taps, -1)


def s4_kernel(of: Callable[[str], torch.Tensor], config: dict, length: int) -> torch.Tensor:
    """The kernels `[c, d, length]` of S4's block: diagonal, or from matrices over states and their conjugates."""
    width = config["d_model"]
    times = width // (config.get("n_ssm") or width)
    dt = POSITIVE[config.get("dt_transform", "exp")](of("kernel.inv_dt"))
    re = POSITIVE[config.get("real_transform", "exp")](of("kernel.A_real"))
    im = POSITIVE[config.get("imag_transform", "none")](of("kernel.A_imag"))
    a = -torch.complex(re, im).repeat(times, 1)
    b = complex_of(of("kernel.B"))[0].repeat(times, 1)
    c = complex_of(of("kernel.C"))
    if config.get("mode", "dplr") == "diag":
        if config.get("disc", "zoh") == "zoh":
            return powers(c * b * (torch.exp(dt * a) - 1) / a, torch.exp(dt * a), length)
        return powers(c * b * dt / (1 - dt * a / 2), (1 + dt * a / 2) / (1 - dt * a / 2), length)
    p = complex_of(of("kernel.P")).repeat(1, times, 1)
    both = lambda x: torch.cat([x, x.conj()], -1)
    a, b, c, p, dt = both(a), both(b), both(c), both(p), torch.cat([dt.expand(width, a.shape[1])] * 2, -1)
    matrix = torch.diag_embed(a) - torch.einsum("rci,rcj->cij", p, p.conj())
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    half = dt[..., None] * matrix / 2
    step = torch.linalg.solve(one - half, one + half)
    x = torch.linalg.solve(one - half, (dt * b)[..., None])
    stored_for = int(of("kernel.l_kernel"))
    if stored_for:
        c = torch.linalg.solve(one - torch.linalg.matrix_power(step, stored_for), c[:, :, None], left=False)[:, :, 0]
    taps = []
    for _ in range(length):
        taps.append(torch.einsum("kcn,cni->kc", c, x).real)
        x = step @ x
    return torch.stack(taps, -1)


def s4_model(tensors: Tensors, config: dict, x: torch.Tensor) -> torch.Tensor:
    """Scores `[b, d_output]` of `x: [b, l, d_input]`."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    x = dense(tensors, "encoder", x.double())
    for layer in range(config["n_layers"]):
        mixed = lambda x: s4_layer(tensors, f"s4_layers.{layer}.", config, x)
        norm = lambda x: layer_norm(tensors, f"norms.{layer}", x)
        x = x + mixed(norm(x)) if config.get("prenorm") else norm(x + mixed(x))
    return dense(tensors, "decoder", x.mean(1))


def s4_layer(tensors: Tensors, name: str, config: dict, x: torch.Tensor) -> torch.Tensor:
    """Convolutions, activation, gated projection."""
    length = x.shape[1]
    if config["layer"] == "S4D":
        of = scope(tensors, name)
        kernels, skip = s4d_kernel(of, length), of("D")[None]
    else:
        of = scope(tensors, f"{name}layer.")
        kernels, skip = s4_kernel(of, config, min(length, config.get("l_max") or length)), of("D")
        kernels = F.pad(kernels, (0, length - kernels.shape[-1]))
    count = len(skip)
    y = torch.stack([causal(x, kernels[i]) + skip[i] * x for i in range(count)], 2)
    if config.get("bidirectional"):
        ahead = F.pad(kernels[count:], (1, 0))[..., :length]
        y = y + torch.stack([causal(x.flip(1), ahead[i]).flip(1) for i in range(count)], 2)
    y = F.gelu(y).flatten(2)
    weight = tensors[f"{name}output_linear.0.weight"].flatten(1)
    return F.glu(F.linear(y, weight, tensors[f"{name}output_linear.0.bias"]), -1)
