"""meganeura: WGSL through blade-graphics."""

import tomllib
from pathlib import Path

from peer import Measured, Place, Unavailable
from workloads import Encoding, Workload

PROJECT = Path(__file__).with_name("meganeura")
WARM_UP = 1


class Meganeura:
    """Its SmolLM2 with random weights, built by the project in `meganeura/`."""

    name = "meganeura"

    def __init__(self, place: Place) -> None:
        self.place = place
        self.target = place.work / "target-meganeura"

    def prepare(self) -> str:
        """Build the project."""
        self.place.cargo_build(PROJECT / "Cargo.toml", self.target)
        return tomllib.loads((PROJECT / "Cargo.toml").read_text())["dependencies"]["meganeura"].lstrip("=")

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Q4 projections in blocks like Q4_1's; the tied embedding is f32, where the GGUF file has Q8_0."""
        if isinstance(workload, Encoding):
            raise Unavailable("has no BERT among its models")
        if workload.weights != "Q4_1":
            raise Unavailable("its SmolLM2 takes f32 and Q4 weights only")
        program = self.target / "release" / "castiron-bench-meganeura"
        printed = self.place.run([program, str(workload.prompt), str(workload.new), str(WARM_UP), str(runs)])
        rows = [[float(word) for word in line.split()] for line in printed.splitlines()]
        return {"prompt_ms": [row[0] for row in rows], "token_ms": [row[1] for row in rows]}
