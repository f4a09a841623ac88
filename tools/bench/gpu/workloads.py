"""What is measured: the models, their encodings and the sizes of their inputs."""

from dataclasses import dataclass

from models import BERT_BASE, MINILM, Encoder


@dataclass(frozen=True)
class Generation:
    """Greedy decoding of `new` tokens after a prompt of `prompt` tokens, batch 1."""

    name: str
    weights: str
    prompt: int
    new: int
    measures = {"prompt_ms": "prompt, ms", "token_ms": "decode, ms per token"}

    @property
    def title(self) -> str:
        """The heading of its table."""
        return f"{self.name}, {self.weights}: prompt of {self.prompt}, {self.new} new tokens"


@dataclass(frozen=True)
class Encoding:
    """One forward pass of `batch` texts of `sequence` tokens in f32."""

    name: str
    encoder: Encoder
    batch: int
    sequence: int
    measures = {"batch_ms": "forward, ms"}

    @property
    def title(self) -> str:
        """The heading of its table."""
        return f"{self.name}, f32: batch {self.batch}, sequence {self.sequence}"


Workload = Generation | Encoding


def workloads(quick: bool) -> dict[str, Workload]:
    """All workloads by the name that selects them; quick ones generate fewer tokens."""
    new = 8 if quick else 64
    return {
        "smollm2-q4": Generation("SmolLM2-135M-Instruct", "Q4_1", 128, new),
        "smollm2-f16": Generation("SmolLM2-135M-Instruct", "F16", 128, new),
        "minilm": Encoding("all-MiniLM-L6-v2", MINILM, 1, 128),
        "bert-base": Encoding("BERT base", BERT_BASE, 1, 128),
    }
