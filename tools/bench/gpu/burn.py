"""burn's wgpu backend, in WGSL, with its fusion and its autotuning."""

import tomllib
from pathlib import Path

from peer import Measured, Place, Unavailable
from workloads import Generation, Workload

PROJECT = Path(__file__).with_name("burn")
WARM_UP = 3
"""Runs that do not count: the first ones choose kernels by trying them."""


class Burn:
    """`burn::nn::TransformerEncoder` with random weights, built by the project in `burn/`."""

    name = "burn wgpu"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.target = place.work / "target-burn"

    def prepare(self) -> str:
        """Build the project."""
        self.place.cargo_build(PROJECT / "Cargo.toml", self.target)
        manifest = tomllib.loads((PROJECT / "Cargo.toml").read_text())
        return manifest["dependencies"]["burn"]["version"].lstrip("=")

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Token ids to output, f32."""
        if isinstance(workload, Generation):
            raise Unavailable("not measured: burn has no SmolLM2 of its own")
        e = workload.encoder
        sizes = [e.layers, e.hidden, e.heads, e.intermediate, e.vocabulary, workload.batch, workload.sequence]
        program = self.target / "release" / "castiron-bench-burn"
        printed = self.place.run([program, *map(str, sizes), str(WARM_UP), str(runs)])
        return {"batch_ms": [float(line) for line in printed.splitlines()]}
