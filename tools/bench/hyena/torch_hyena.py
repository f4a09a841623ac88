"""HyenaDNA as its authors compute it, with PyTorch's FFT: times of a classifier's forward pass as JSON."""

import json
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Hyena:
    """The model of a folder, f32."""

    def __init__(self, folder: Path) -> None:
        """Read the tensors."""
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = load_file(folder / "model.safetensors")

    def dense(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A dense layer with the bias that it has."""
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A layer norm."""
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the labels by the last token."""
        prefix = "hyena.backbone."
        x = F.embedding(ids, self.tensors[f"{prefix}embeddings.word_embeddings.weight"])
        for layer in range(self.config["n_layer"]):
            name = f"{prefix}layers.{layer}."
            x = x + self.mixer(f"{name}mixer.", self.norm(f"{name}norm1", x))
            inner = F.gelu(self.dense(f"{name}mlp.fc1", self.norm(f"{name}norm2", x)), approximate="tanh")
            x = x + self.dense(f"{name}mlp.fc2", inner)
            del inner
        return self.dense("score", self.norm(f"{prefix}ln_f", x)[:, -1])

    def mixer(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """Gates around the long convolution: transforms of twice the length."""
        length = y.shape[1]
        u = self.dense(f"{name}in_proj", y).transpose(1, 2)
        taps, bias = self.tensors[f"{name}short_filter.weight"], self.tensors[f"{name}short_filter.bias"]
        u = F.conv1d(u, taps, bias, padding=taps.shape[-1] - 1, groups=len(taps))[..., :length]
        gate, first, v = u.chunk(3, 1)
        s = v * first
        k = self.filters(f"{name}filter_fn.", length)
        spectrum = torch.fft.rfft(k, n=2 * length) / (2 * length)
        mixed = torch.fft.irfft(torch.fft.rfft(s, n=2 * length) * spectrum, n=2 * length, norm="forward")[..., :length]
        mixed = (mixed + s * self.tensors[f"{name}filter_fn.bias"][:, None]) * gate
        return self.dense(f"{name}out_proj", mixed.transpose(1, 2))

    def filters(self, name: str, length: int) -> torch.Tensor:
        """Filters `[c, length]`."""
        h = self.tensors[f"{name}pos_emb.z"][0, :length]
        layers = self.config["num_inner_mlps"]
        for layer in range(layers + 1):
            place = f"{name}implicit_filter.{2 * layer}"
            h = torch.sin(self.tensors[f"{name}implicit_filter.1.freq"] * self.dense(place, h))
        k = self.dense(f"{name}implicit_filter.{2 * layers + 2}", h)
        t, deltas = self.tensors[f"{name}pos_emb.t"][0, :length], self.tensors[f"{name}modulation.deltas"][0].abs()
        return (k * (torch.exp(-t * deltas) + 0.05)).T


@torch.inference_mode()
def main(folder: str, length: str, runs: str, threads: str) -> None:
    """One run that does not count, then those that do."""
    torch.set_num_threads(int(threads))
    model, ids = Hyena(Path(folder)), torch.arange(int(length))[None] % 29 + 3
    times = []
    for _ in range(int(runs) + 1):
        start = time.perf_counter()
        logits = model.forward(ids)
        times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"ms": times[1:], "peak_rss_bytes": peak, "logits": logits.tolist()}))


main(*sys.argv[1:])
