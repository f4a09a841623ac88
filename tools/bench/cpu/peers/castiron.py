"""castiron on the CPU."""

import json
import time
from pathlib import Path

from models_on_disk import Checkpoints
from peer import Measured, Place
from workloads import Generation, Workload


class Castiron:
    """`castiron bench` on compiled artifacts."""

    name = "castiron"

    def __init__(self, place: Place, target: Path, program: Path | None, threads: int) -> None:
        self.place = place
        self.target = target
        self.is_given = program is not None
        self.program = program or target / "release" / "castiron"
        self.threads = threads
        self.checkpoints = Checkpoints(place, self.program)
        self.compiled: dict[Path, Path] = {}

    def prepare(self) -> str:
        """Build the command line, unless a built one is given."""
        if self.is_given:
            return self.place.run([self.program, "--version"]).strip()
        self.place.cargo_build(self.place.repository / "tools" / "Cargo.toml", self.target)
        commit = self.place.run(["git", "-C", self.place.repository, "describe", "--always", "--dirty"])
        return commit.strip()

    def limits(self) -> dict[str, float | str | None]:
        """Peaks of the machine on as many threads."""
        printed = self.place.run([self.example("kernel_peak"), "machine"], THREADS=str(self.threads))
        return json.loads(printed.splitlines()[-1])

    def logits(self, artifact: Path, tokens: str) -> bytes:
        """Logits of a text, f32; tokens have commas between them."""
        return self.place.run_bytes([self.example("logits"), artifact, tokens])

    def example(self, name: str) -> Path:
        """A program of the runtime's examples, built."""
        manifest = self.place.repository / "runtime" / "Cargo.toml"
        self.place.cargo_build(manifest, self.target, "--example", name)
        return self.target / "release" / "examples" / name

    def artifact(self, workload: Workload) -> Path:
        """The compiled checkpoint; compiled once in each comparison, since the compiler changes."""
        checkpoint = self.checkpoints.of(workload)
        if checkpoint not in self.compiled:
            artifact = self.place.work / f"{checkpoint.name}.iron"
            self.place.run([self.program, "compile", checkpoint, "-o", artifact, "--json"])
            self.compiled[checkpoint] = artifact
        return self.compiled[checkpoint]

    def bench(self, workload: Workload, runs: int) -> dict:
        """What it says about itself."""
        command = [self.program, "bench", self.artifact(workload), "--json"]
        flags: dict[str, object] = {"--threads": self.threads, "--runs": runs}
        if isinstance(workload, Generation):
            flags |= {"--prompt-tokens": workload.prompt, "--new-tokens": workload.new}
        else:
            flags["--lengths"] = ",".join(map(str, workload.lengths))
        for flag, value in flags.items():
            command += [flag, str(value)]
        return json.loads(self.place.run(command))

    def measure(self, workload: Workload, runs: int) -> Measured:
        """Its own warm-up run does not count. A cold start is a whole process with that run alone."""
        result = self.bench(workload, runs)
        found: Measured = {"load_ms": [result["load_ms"]], "peak_rss_mb": [result["peak_rss_bytes"] / 1e6]}
        if isinstance(workload, Generation):
            found["prompt_ms"] = [1e3 * workload.prompt / run["prompt_tokens_per_s"] for run in result["runs"]]
            found["token_ms"] = [1e3 / run["generate_tokens_per_s"] for run in result["runs"]]
        else:
            found["batch_ms"] = [run["ms_per_batch"] for run in result["runs"]]
        start = time.perf_counter()
        self.bench(workload.cold, 0)
        return found | {"cold_ms": [(time.perf_counter() - start) * 1e3]}
