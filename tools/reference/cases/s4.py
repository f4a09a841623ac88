"""S4 and S4D, whose inputs are vectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from case import Case
from long_convolutions import Tensors, s4_model
from vocabularies import as_json

SMALL = dict(model_type="s4", architectures=["S4Model"], d_input=3, d_output=5, d_model=12, n_layers=2, prenorm=False, dropout=0.1)


@dataclass(frozen=True, kw_only=True)
class S4Case(Case):
    """A checkpoint with the reference's names and random tensors."""

    stored_for: int = 0
    """The length that the readouts are stored for."""

    def write_folder(self, folder: Path, generator: np.random.Generator) -> None:
        """Write the whole folder."""
        config = SMALL | self.config
        tensors = draw(config, self.stored_for, generator)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(as_json(config))
        batch, length = self.lengths
        x = torch.from_numpy(generator.normal(size=(batch, length, config["d_input"]))).float()
        logits = s4_model(load_file(folder / "model.safetensors"), config, x).float()
        save_file({"in.x": x, "out.logits": logits.contiguous()}, folder / "reference.safetensors")


def draw(config: dict, stored_for: int, generator: np.random.Generator) -> Tensors:
    """Random tensors by name."""
    width, n = config["d_model"], config.get("d_state", 64) // 2
    tensors = {}

    def normal(name: str, *shape: int, scale: float = 1.0) -> None:
        tensors[name] = torch.from_numpy(generator.normal(0.0, scale, shape)).float()

    def uniform(name: str, *shape: int, low: float, high: float) -> None:
        tensors[name] = torch.from_numpy(generator.uniform(low, high, shape)).float()

    def dense(name: str, outputs: int, inputs: int, *more: int) -> None:
        normal(f"{name}.weight", outputs, inputs, *more, scale=1.5 / np.sqrt(inputs))
        normal(f"{name}.bias", outputs, scale=0.2)

    dense("encoder", width, config["d_input"])
    dense("decoder", config["d_output"], width)
    for layer in range(config["n_layers"]):
        uniform(f"norms.{layer}.weight", width, low=0.5, high=1.5)
        normal(f"norms.{layer}.bias", width, scale=0.2)
        name = f"s4_layers.{layer}."
        if config["layer"] == "S4D":
            normal(f"{name}D", width)
            normal(f"{name}kernel.C", width, n, 2, scale=0.7)
            uniform(f"{name}kernel.log_dt", width, low=np.log(1e-3), high=np.log(1e-1))
            uniform(f"{name}kernel.log_A_real", width, n, low=-1.0, high=0.0)
            tensors[f"{name}kernel.A_imag"] = torch.arange(n).float().mul(np.pi).repeat(width, 1)
            dense(f"{name}output_linear.0", 2 * width, width, 1)
            continue
        channels, spaces = config.get("channels", 1), config.get("n_ssm") or width
        dense(f"{name}output_linear.0", 2 * width, channels * width)
        name = f"{name}layer."
        normal(f"{name}D", channels, width)
        both = 2 * channels if config.get("bidirectional") else channels
        normal(f"{name}kernel.C", both, width, n, 2, scale=0.7)
        normal(f"{name}kernel.B", 1, spaces, n, 2)
        uniform(f"{name}kernel.A_real", spaces, n, low=-1.0, high=0.5)
        # The imaginary parts grow as those of HiPPO's matrices do.
        tensors[f"{name}kernel.A_imag"] = -torch.arange(n).float().mul(np.pi).add(0.1).repeat(spaces, 1)
        if config.get("imag_transform", "none") != "none":
            uniform(f"{name}kernel.A_imag", spaces, n, low=0.1, high=2.0)
        steps = 1 if config.get("dt_tie", True) else n
        low, high = (1e-3, 1e-1) if config.get("dt_transform", "exp") != "exp" else (np.log(1e-3), np.log(1e-1))
        uniform(f"{name}kernel.inv_dt", width, steps, low=low, high=high)
        if config.get("mode", "dplr") == "dplr":
            normal(f"{name}kernel.P", config.get("rank", 1), spaces, n, 2, scale=0.7)
            tensors[f"{name}kernel.l_kernel"] = torch.tensor(stored_for)
    return tensors


def case(name: str, layer: str = "S4Block", lengths: tuple[int, int] = (2, 37), stored_for: int = 0, **config) -> S4Case:
    """A row of the table."""
    return S4Case(
        name=f"s4-{name}", model="S4Model", lengths=lengths, stored_for=stored_for, config=dict(layer=layer) | config
    )


CASES = [
    case("minimal", "S4D", d_state=16, prenorm=True),
    case("minimal-long", "S4D", lengths=(1, 3001), d_state=8, d_input=1, d_model=10),
    case("diagonal", mode="diag", d_state=12, channels=2, bidirectional=True, n_ssm=4, lengths=(2, 201)),
    case(
        "bilinear",
        mode="diag",
        disc="bilinear",
        d_state=10,
        dt_tie=False,
        dt_transform="softplus",
        real_transform="relu",
        imag_transform="sigmoid",
        prenorm=True,
        l_max=29,
    ),
    case("low-rank", d_state=14),
    case("low-rank-long", d_state=8, n_ssm=2, lengths=(1, 2050), stored_for=1024, d_input=1),
    case(
        "low-rank-switches",
        d_state=12,
        channels=2,
        bidirectional=True,
        rank=2,
        n_ssm=3,
        stored_for=16,
        lengths=(3, 53),
        dt_tie=False,
        real_transform="softplus",
        prenorm=True,
    ),
]
