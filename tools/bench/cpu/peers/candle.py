"""candle, built for this processor."""

import tomllib
from collections.abc import Callable
from pathlib import Path

from jobs import is_gpt2, job_of, measured, run_job
from peer import Measured, Place, Unavailable
from workloads import Generation, Workload

PROJECT = Path(__file__).parents[1] / "candle"


class Candle:
    """Its `quantized_llama` and `bert`."""

    name = "candle"

    def __init__(self, place: Place, checkpoint: Callable[[Workload], Path], threads: int) -> None:
        self.place = place
        self.checkpoint = checkpoint
        self.threads = threads
        self.target = place.work / "target-candle"

    def prepare(self) -> str:
        """Build the project."""
        self.place.cargo_build(PROJECT / "Cargo.toml", self.target, RUSTFLAGS="-C target-cpu=native")
        manifest = tomllib.loads((PROJECT / "Cargo.toml").read_text())
        return manifest["dependencies"]["candle-core"].lstrip("=")

    def run(self, workload: Workload, runs: int) -> tuple[dict, float]:
        """One process."""
        program = self.target / "release" / "castiron-bench-candle"
        job = job_of(workload, self.checkpoint(workload), runs, self.threads, {})
        return run_job(self.place, [program], job, RAYON_NUM_THREADS=str(self.threads))

    def measure(self, workload: Workload, runs: int) -> Measured:
        """What its library has models for."""
        if is_gpt2(workload):
            raise Unavailable("not measured: candle-transformers has no GPT-2")
        if isinstance(workload, Generation) and getattr(workload.sizes, "architecture", "") != "llama":
            raise Unavailable("not measured: only its LLaMA is built here")
        return measured(workload, self.run, runs)
