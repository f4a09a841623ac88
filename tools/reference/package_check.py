"""Compares the references of RetNet, GLA and RWKV with what their packages compute.

Runs in an environment of its own (`requirements-packages.txt`): transformers would take the package's kernels for
models of its own if it found them. The kernels run in Triton's interpreter, a few seconds for a batch.
"""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

os.environ |= {"TRITON_INTERPRET": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file

TOLERANCE = 3e-4
# One of the package's kernels takes as many channels of values as keys have, unlike its own reference.
UNCHECKED = ("rwkv7-fla-wide",)


def check_all(root: Path, names: list[str]) -> None:
    """Compare the folders called `names`, or all whose models have a package."""
    largest = 0.0
    for folder in sorted(root.iterdir()):
        config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
        architecture = (config.get("architectures") or [None])[0]
        run = RUNS.get(architecture)
        if run is None or folder.name in UNCHECKED or (names and folder.name not in names):
            continue
        reference = load_file(folder / "reference.safetensors")
        ids = torch.from_numpy(reference["in.input_ids"])
        mask = torch.from_numpy(reference.get("in.attention_mask", np.ones_like(reference["in.input_ids"])))
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            logits = run(folder, config, ids, mask)
        real = mask.bool()
        expected = torch.from_numpy(reference["out.logits"])[real]
        error = ((logits[real] - expected).abs() / expected.abs().clamp(min=1)).max().item()
        largest = max(largest, error)
        print(f"{folder.name}: {error:.1e}", flush=True)
    if largest > TOLERANCE:
        raise SystemExit(f"a reference differs from its package by {largest:.1e}")


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder, in f32."""
    for path in folder.glob("*.pth"):
        return {name: tensor.float() for name, tensor in torch.load(path, weights_only=True).items()}
    return {name: tensor.float() for name, tensor in load_torch_file(folder / "model.safetensors").items()}


def official(folder: Path, config: dict, ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The package `rwkv` with the strategy `cpu fp32`, which reads `.pth` files and one sequence at a time."""
    os.environ["RWKV_V7_ON"] = "1"
    from rwkv import model as package

    is_seventh = config["model_type"] == "rwkv7"
    with tempfile.TemporaryDirectory() as temporary:
        name = f"{temporary}/model"
        torch.save(stored(folder), f"{name}.pth")
        if is_seventh:
            model = package.RWKV_x070(name, "cpu fp32")
        else:
            model = older(package)(name, "cpu fp32", verbose=False)
        # A list of one token gives no row for each token.
        rows = [model.forward(row, None, True)[0] for row in ids.tolist()]
    return torch.stack(rows).float()


def older(package: object) -> type:
    """The package's class for versions up to 6, which the one for version 7 replaces."""
    return next(c for c in package.MyModule.__subclasses__() if c.__name__ == "RWKV" and c is not package.RWKV_x070)


def fla(folder: Path, config: dict, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The package `flash-linear-attention`."""
    without_tuning()
    import transformers.modeling_utils
    from fla import models

    # The first values of its parameters take time, and fail for values wider than the model.
    transformers.modeling_utils._init_weights = False
    architecture = config["architectures"][0]
    model_class = getattr(models, architecture)
    settings = {k: v for k, v in config.items() if k not in ("architectures", "model_type", "torch_dtype")}
    model = model_class(model_class.config_class(**settings)).eval()
    missing, unexpected = model.load_state_dict(stored(folder), strict=False)
    if set(missing) - {"lm_head.weight"} or unexpected:
        raise ValueError(f"{folder.name}: {missing} {unexpected}")
    if config["tie_word_embeddings"]:
        model.tie_weights()
    return model(input_ids=ids, attention_mask=mask).logits


def without_tuning() -> None:
    """Makes Triton take the first of several configurations of a kernel, since measuring them needs a device."""
    from triton.runtime.autotuner import Autotuner

    def run(self, *args, **kwargs):
        self.nargs = dict(zip(self.arg_names, args))
        config = next(iter(self.prune_configs(kwargs)))
        if config.pre_hook:
            config.pre_hook({**self.nargs, **kwargs, **config.all_kwargs()})
        result = self.fn.run(*args, **kwargs, **config.all_kwargs())
        self.nargs = None
        return result

    Autotuner.run = run


RUNS = {"RWKV": official} | {f"{name}ForCausalLM": fla for name in ("RetNet", "GLA", "RWKV6", "RWKV7")}
