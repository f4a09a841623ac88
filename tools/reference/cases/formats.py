"""Storage formats: PyTorch's files, element types, and quantised safetensors."""

import torch

from cases.llama import SMALL
from quantised_case import QuantisedCase
from safetensors_case import SafetensorsCase, Tensors
from torch_case import TorchCase

WIDE = SMALL | dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
UNEVEN = SMALL | dict(hidden_size=36, intermediate_size=40)


def strided(tensors: Tensors) -> Tensors:
    """Tensors that share storages, are transposed, or lie apart."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith(("gate_proj.weight", "o_proj.weight")):
            tensor = tensor.t().contiguous().t()
        elif name.endswith("up_proj.weight"):
            wide = torch.zeros(tensor.shape[0] + 3, 2 * tensor.shape[1])
            wide[3:, ::2] = tensor
            tensor = wide[3:, ::2]
        out[name] = tensor
    norms = torch.stack([out["model.layers.0.input_layernorm.weight"], out["model.norm.weight"]])
    return out | {"model.layers.0.input_layernorm.weight": norms[0], "model.norm.weight": norms[1]}


def eight_bit_floats(tensors: Tensors) -> Tensors:
    """Matrices of layers as 8-bit floats of both kinds."""
    kinds = {"up_proj": torch.float8_e4m3fn, "down_proj": torch.float8_e5m2}
    return {name: tensor.to(kinds.get(name.split(".")[-2], torch.float32)) for name, tensor in tensors.items()}


def parameters(tensors: Tensors) -> dict:
    """What a training script saves: parameters under a key, beside other things."""
    state = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    return {"epoch": 3, "state_dict": state, "loss": 0.5}


def torch_case(name: str, **fields) -> TorchCase:
    """A LLaMA in PyTorch's files."""
    return TorchCase(name=f"torch-{name}", model="LlamaForCausalLM", config=SMALL, lengths=(7, 4), **fields)


def quantised(name: str, config: dict = WIDE, **fields) -> QuantisedCase:
    """A quantised LLaMA."""
    return QuantisedCase(name=name, model="LlamaForCausalLM", config=config, lengths=(7, 4), **fields)


CASES = [
    torch_case("zip", edit_tensors=strided),
    torch_case("legacy", legacy=True, edit_tensors=strided),
    torch_case("sharded", shards=2, dtype="bfloat16"),
    torch_case("parameters", file="model.pth", wrap=parameters, dtype="float16"),
    SafetensorsCase(name="llama-f64", model="LlamaForCausalLM", config=SMALL, dtype="float64", lengths=(7, 4)),
    SafetensorsCase(
        name="llama-f8", model="LlamaForCausalLM", config=SMALL, edit_tensors=eight_bit_floats, lengths=(7, 4)
    ),
    quantised("gptq-symmetric", method="gptq", symmetric=True),
    quantised("gptq-zero-points", method="gptq"),
    quantised("gptq-permuted", method="gptq", permuted=True, second_format=True),
    quantised("awq", method="awq"),
    quantised("fp8", method="fp8", config=UNEVEN),
]
