"""What is measured: the models, their encodings and the sizes of their inputs."""

from dataclasses import dataclass, replace

from models import BERT_BASE, GPT2, MAMBA, MINILM, QWEN, SMOLLM2, TINYLLAMA, Decoder, Encoder, Gpt2, Mamba

PROMPT_AND_TOKEN = {"prompt_ms": "prompt, ms", "token_ms": "decode, ms per token"}
COMMON = {"cold_ms": "cold start, ms", "load_ms": "load, ms", "peak_rss_mb": "peak RSS, MB"}
BYTES = {"f32": 4.0, "F16": 2.0, "Q8_0": 34 / 32, "Q6_K": 210 / 256, "Q4_0": 18 / 32, "Q4_1": 20 / 32}
"""Of one weight."""
UNEQUAL = (128, 24, 8, 64, 16, 96, 12, 36)
"""Lengths of texts in one batch: 384 tokens, 1024 with padding."""


@dataclass(frozen=True)
class Generation:
    """Greedy decoding of `new` tokens after a prompt of `prompt` tokens, batch 1."""

    model: str
    sizes: Decoder | Gpt2 | Mamba
    weights: str
    prompt: int
    new: int
    measures = PROMPT_AND_TOKEN | COMMON

    @property
    def title(self) -> str:
        """The heading of its table."""
        return f"{self.model}, {self.weights}: prompt of {self.prompt}, {self.new} new tokens"

    @property
    def products(self) -> int:
        """Weights that a token of the prompt is multiplied with."""
        if isinstance(self.sizes, Gpt2):
            return self.sizes.layers * 12 * self.sizes.hidden**2
        return self.sizes.products

    @property
    def prompt_flops(self) -> float:
        """Operations of the prompt: products, causal attention, logits of the last token."""
        s = self.sizes
        # A selective scan multiplies and adds four times for each number of the state.
        scan = 8 * s.layers * s.inner * s.state * self.prompt if isinstance(s, Mamba) else 0
        attention = scan or 2 * s.layers * s.hidden * self.prompt**2
        return 2 * self.products * self.prompt + attention + 2 * s.vocabulary * s.hidden

    @property
    def token_bytes(self) -> float:
        """Weights that are read for each new token; `scripts/write_gguf.py` says how the head is stored."""
        s = self.sizes
        is_finer = self.weights.startswith("Q4")
        head = ("Q8_0" if s.hidden % 256 else "Q6_K") if is_finer else self.weights
        return self.products * BYTES[self.weights] + s.vocabulary * s.hidden * BYTES[head]

    @property
    def cold(self) -> "Generation":
        """What a cold start runs."""
        return replace(self, prompt=8, new=1)


@dataclass(frozen=True)
class Encoding:
    """One forward pass of texts of `lengths` tokens in f32, padded to the longest."""

    model: str
    encoder: Encoder
    lengths: tuple[int, ...]
    measures = {"batch_ms": "forward, ms"} | COMMON

    @property
    def title(self) -> str:
        """The heading of its table."""
        if len(set(self.lengths)) > 1:
            return f"{self.model}, f32: {len(self.lengths)} texts of {', '.join(map(str, self.lengths))} tokens"
        return f"{self.model}, f32: batch {len(self.lengths)}, sequence {self.lengths[0]}"

    @property
    def flops(self) -> float:
        """Operations of the real tokens: products and attention."""
        e = self.encoder
        products = e.layers * (4 * e.hidden**2 + 2 * e.hidden * e.intermediate)
        attention = sum(4 * e.layers * e.hidden * length**2 for length in self.lengths)
        return 2.0 * products * sum(self.lengths) + attention

    @property
    def cold(self) -> "Encoding":
        """What a cold start runs."""
        return replace(self, lengths=(16,))


Workload = Generation | Encoding


def workloads(quick: bool) -> dict[str, Workload]:
    """All workloads by the name that selects them; quick ones generate fewer tokens."""
    new = 32 if quick else 128
    found: dict[str, Workload] = {}
    for name, model, sizes, encodings in (
        ("smollm2", "SmolLM2-135M", SMOLLM2, ("F16", "Q8_0", "Q4_0", "Q4_1")),
        ("qwen", "Qwen2.5-0.5B", QWEN, ("F16", "Q8_0", "Q4_0")),
        ("tinyllama", "TinyLlama-1.1B", TINYLLAMA, ("F16", "Q8_0", "Q4_0")),
    ):
        for encoding in encodings:
            found[f"{name}-{encoding.lower().replace('_', '')}"] = Generation(model, sizes, encoding, 512, new)
    found["gpt2"] = Generation("GPT-2", GPT2, "f32", 512, new)
    for weights in ("f32", "F16", "Q8_0"):
        name = f"mamba-{weights.lower().replace('_', '')}"
        found[name] = Generation("Mamba-130M", MAMBA, weights, 512, new)
    found["bert-1"] = Encoding("BERT-base", BERT_BASE, (128,))
    found["bert-8"] = Encoding("BERT-base", BERT_BASE, (128,) * 8)
    found["bert-unequal"] = Encoding("BERT-base", BERT_BASE, UNEQUAL)
    found["minilm-1"] = Encoding("MiniLM-L6", MINILM, (128,))
    found["minilm-32"] = Encoding("MiniLM-L6", MINILM, (128,) * 32)
    return found
