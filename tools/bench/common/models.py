"""Sizes of real models; weights are random, since values do not matter to time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoder:
    """A BERT-shaped encoder."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int = 30522
    positions: int = 512


@dataclass(frozen=True)
class Decoder:
    """A LLaMA, or a Qwen2, which has biases of queries, keys and values."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    positions: int
    tied: bool
    architecture: str = "llama"
    theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.hidden // self.heads

    @property
    def products(self) -> int:
        """Weights that every token is multiplied with, the head of the vocabulary left out."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


@dataclass(frozen=True)
class Mamba:
    """A Mamba."""

    layers: int
    hidden: int
    inner: int
    rank: int
    state: int = 16
    taps: int = 4
    vocabulary: int = 50280

    @property
    def products(self) -> int:
        """Weights that every token is multiplied with, the head of the vocabulary left out."""
        selected = self.rank + 2 * self.state
        return self.layers * self.inner * (3 * self.hidden + selected + self.rank)


MINILM = Encoder(layers=6, hidden=384, heads=12, intermediate=1536)
BERT_BASE = Encoder(layers=12, hidden=768, heads=12, intermediate=3072)
SMOLLM2 = Decoder(30, 576, 9, 3, 1536, 49152, 8192, tied=True, theta=100000.0)
QWEN = Decoder(24, 896, 14, 2, 4864, 151936, 32768, tied=True, architecture="qwen2", theta=1000000.0)
TINYLLAMA = Decoder(22, 2048, 32, 4, 5632, 32000, 2048, tied=False)

MAMBA = Mamba(24, 768, 1536, 48)
"""Mamba-130M."""


@dataclass(frozen=True)
class Gpt2:
    """GPT-2."""

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    vocabulary: int = 50257
    positions: int = 1024


GPT2 = Gpt2()
