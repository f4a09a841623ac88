"""Reference folders of quantised safetensors. Packing follows the published definitions, in numpy.

The reference is the transformers model with the dequantised weights.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from safetensors_case import SafetensorsCase, Tensors
from weights import randomise

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

# The models with dequantised weights, by case.
_MODELS: dict[str, transformers.PreTrainedModel] = {}


def pack(integers: np.ndarray, order: tuple[int, ...] = tuple(range(8))) -> np.ndarray:
    """`[.., n]` integers below 16 as `[.., n/8]` words: nibble `i` of a word is its integer `order[i]`."""
    groups = integers.reshape(*integers.shape[:-1], -1, 8).astype(np.uint32)
    words = np.zeros(groups.shape[:-1], np.uint32)
    for nibble, position in enumerate(order):
        words |= groups[..., position] << np.uint32(4 * nibble)
    return words.view(np.int32)


@dataclass(frozen=True, kw_only=True)
class QuantisedCase(SafetensorsCase):
    """A decoder whose linears, but for the head, are quantised."""

    method: str
    """`gptq`, `awq` or `fp8`."""

    group: int = 32
    """Inputs that share a scale."""

    symmetric: bool = False
    """Whether every zero point is 8."""

    permuted: bool = False
    """Whether inputs belong to groups in any order (GPTQ's `desc_act`)."""

    second_format: bool = False
    """GPTQ's second format, which stores zero points as they are."""

    block: tuple[int, int] = (16, 16)
    """Rows and columns that share a scale of FP8."""

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """See `Case`."""
        model_class = getattr(transformers, self.model)
        model = model_class(model_class.config_class(**self.config))
        randomise(model, generator, {})
        tensors: Tensors = {}
        quantise = dict(gptq=self.four_bits, awq=self.four_bits, fp8=self.fp8)[self.method]
        state = model.state_dict()
        for name, tensor in state.items():
            if name in model.all_tied_weights_keys:
                continue
            if not name.endswith("proj.weight"):
                tensors[name] = tensor.clone()
                continue
            parts, values = quantise(name.removesuffix(".weight"), tensor.numpy(), generator)
            tensors |= {part: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for part, x in parts.items()}
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(values))
        _MODELS[self.name] = model
        model.config.quantization_config = None
        object.__setattr__(self, "edit_config", lambda config: config | {"quantization_config": self.settings()})
        self.write_config(model, folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def settings(self) -> dict:
        """`quantization_config`."""
        if self.method == "fp8":
            return dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=list(self.block))
        common = dict(quant_method=self.method, bits=4, group_size=self.group)
        if self.method == "awq":
            return common | dict(version="gemm", zero_point=True, modules_to_not_convert=None)
        form = "gptq_v2" if self.second_format else "gptq"
        return common | dict(
            checkpoint_format=form, desc_act=self.permuted, sym=self.symmetric, damp_percent=0.01, true_sequential=True
        )

    def four_bits(self, stem: str, weight: np.ndarray, generator: np.random.Generator) -> tuple[dict, np.ndarray]:
        """The tensors of a linear of 4-bit integers, and its values."""
        outputs, inputs = weight.shape
        groups = inputs // self.group
        index = np.arange(inputs) // self.group
        if self.permuted:
            index = generator.permutation(index)
        integers = np.zeros((inputs, outputs), np.int64)
        scales = np.zeros((groups, outputs), np.float16)
        zeros = np.full((groups, outputs), 8)
        for group in range(groups):
            columns = weight[:, index == group].T
            low, high = columns.min(axis=0), columns.max(axis=0)
            if self.symmetric:
                scales[group] = np.abs(columns).max(axis=0) / 7.5
            else:
                scales[group] = (high - low) / 15
                zeros[group] = np.clip(np.round(-low / scales[group].astype(np.float32)), 1, 15)
            integers[index == group] = np.clip(np.round(columns / scales[group].astype(np.float32)) + zeros[group], 0, 15)
        values = scales.astype(np.float32)[index] * (integers - zeros[index]).astype(np.float32)
        if self.method == "awq":
            parts = dict(qweight=pack(integers, AWQ_ORDER), qzeros=pack(zeros, AWQ_ORDER), scales=scales)
        else:
            stored = zeros - (0 if self.second_format else 1)
            parts = dict(
                qweight=np.ascontiguousarray(pack(integers.T).T),
                qzeros=pack(stored),
                scales=scales,
                g_idx=index.astype(np.int32),
            )
        return {f"{stem}.{part}": x for part, x in parts.items()}, np.ascontiguousarray(values.T)

    def fp8(self, stem: str, weight: np.ndarray, generator: np.random.Generator) -> tuple[dict, np.ndarray]:
        """The tensors of a linear of 8-bit floats, and its values."""
        rows, columns = (-(-extent // size) for extent, size in zip(weight.shape, self.block))
        spread = np.zeros((rows * self.block[0], columns * self.block[1]), np.float32)
        spread[: weight.shape[0], : weight.shape[1]] = weight
        blocks = spread.reshape(rows, self.block[0], columns, self.block[1])
        scales = (np.abs(blocks).max(axis=(1, 3)) / 448).astype(np.float32)
        each = np.repeat(np.repeat(scales, self.block[0], 0), self.block[1], 1)[: weight.shape[0], : weight.shape[1]]
        floats = torch.from_numpy(weight / each).to(torch.float8_e4m3fn)
        parts = {f"{stem}.weight": floats, f"{stem}.weight_scale_inv": scales}
        return parts, floats.float().numpy() * each

    def load(self, folder: Path) -> transformers.PreTrainedModel:
        """See `Case`."""
        model = copy.deepcopy(_MODELS[self.name])
        model.set_attn_implementation("eager")
        return model.float().eval()
