"""What a reference folder is, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from generation import Decoded, decode

Config = dict[str, Any]
Pool = Callable[[np.ndarray, np.ndarray], np.ndarray]
Samples = Callable[[PreTrainedModel, Tokenizer], dict]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One tiny checkpoint and the inputs it is run on.

    `config` holds the arguments of the transformers config class; every other field has the value of
    the plain case as its default, so that a row of a table names only what it is about.
    """

    name: str
    """The folder's name."""

    model: str
    """The transformers model class, such as `LlamaForCausalLM`."""

    config: Config
    """Arguments of the model's config class."""

    lengths: tuple[int, ...] = (11, 7, 4)
    """Real tokens in each row of the batch; rows are padded to the longest."""

    padding: str = "right"
    """The side that padding is on."""

    attention: str = "eager"
    """The implementation of attention that transformers takes."""

    decoder_lengths: tuple[int, ...] | None = None
    """Real tokens of the decoder in each row, for encoder–decoders that are given them."""

    decoder_padding: str = "right"
    """The side that the decoder's padding is on."""

    last_token: int | None = None
    """The last real token of each row, where the model needs a certain one."""

    token_types: bool = False
    """Whether `token_type_ids` is an input."""

    pad: int = 0
    """The token that fills rows up."""

    choices: int | None = None
    """How many texts the model chooses among; inputs have that as an axis before the last."""

    pads_inside: bool = False
    """Whether the padding token also stands among the real tokens of the first row."""

    sentence_embedding: Pool | None = None
    """What makes embeddings of hidden states and mask, if they are an output."""

    tokenizer: Callable[[], Tokenizer] | None = None
    """The tokenizer that the folder's files describe."""

    samples: Samples | None = None
    """What `text.json` holds, if the folder has one."""

    beams: bool = True
    """Whether transformers' search with beams takes the model's states along, so that the folder holds its tokens."""

    has_cache: bool = True
    """Whether decoding keeps what it has read; not all of transformers' caches can be reordered by a beam search."""

    fewest_distinct: int = 6
    """How many tokens of a generated text differ at least, or a broken cache would not show."""

    @property
    def generates(self) -> bool:
        """Whether the model decodes text, so that the folder holds `generate.json`."""
        return self.model.endswith(("CausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel"))

    @property
    def is_masked(self) -> bool:
        """Whether `attention_mask` is an input."""
        return True

    def decode(self, model: PreTrainedModel, prompt: list[int], beams: int) -> Decoded:
        """Continue `prompt` greedily, or by a search with so many beams."""
        return decode(model, prompt, beams, self.has_cache)

    def write_checkpoint(self, folder: Path, generator: np.random.Generator) -> None:
        """Draw the model's weights and store them."""
        raise NotImplementedError

    def load(self, folder: Path) -> PreTrainedModel:
        """The stored model as transformers reads it: f32, eager attention, evaluation mode."""
        raise NotImplementedError
