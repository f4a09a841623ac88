"""Experts that rounding could exchange for others make no reference."""

import torch
from transformers import PreTrainedModel

from suitability import Unsuitable

TRIALS = 4
NOISE = 2e-4


def with_steady_routing(model: PreTrainedModel) -> PreTrainedModel:
    """The model, which raises `Unsuitable` where a router would choose other experts for slightly other inputs."""
    for module in model.modules():
        if type(module).__name__.endswith("Router"):
            module.register_forward_hook(check)
    return model


def check(router: torch.nn.Module, arguments: tuple, output: tuple) -> None:
    """Route the inputs again with noise."""
    hidden, *others = arguments
    chosen = output[-1].sort(dim=-1).values
    generator = torch.Generator().manual_seed(1)
    for _ in range(TRIALS):
        noise = 1 + NOISE * torch.randn(hidden.shape, generator=generator)
        if not torch.equal(router.forward(hidden * noise, *others)[-1].sort(dim=-1).values, chosen):
            raise Unsuitable("a router hesitates")
