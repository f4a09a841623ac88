"""Greedy and beam decoding with transformers, and how clear each choice was."""

from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel

NEW_TOKENS = 20
BEAMS = 4
RULES = (
    "decoder_start_token_id",
    "bad_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
)


@dataclass(frozen=True)
class Decoded:
    """A decoded sequence and the smallest score gap that a choice rested on."""

    tokens: list[int]
    margin: float


def decode(model: PreTrainedModel, prompt: list[int], beams: int, has_cache: bool = True) -> Decoded:
    """Continue `prompt` by exactly `NEW_TOKENS` tokens, none of which is the model's end token.

    An encoder–decoder reads `prompt` as its source, and follows the rules of its folder: the last token is
    the end token if that is forced.
    """
    end = model.generation_config.eos_token_id
    rules = {}
    if model.config.is_encoder_decoder:
        rules = {key: getattr(model.generation_config, key) for key in RULES}
    model.generation_config = GenerationConfig()
    settings = GenerationConfig(
        do_sample=False,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        early_stopping=False,
        length_penalty=1.0,
        eos_token_id=end,
        pad_token_id=end,
        output_scores=True,
        return_dict_in_generate=True,
        use_cache=has_cache,
        **rules,
    )
    ids = torch.tensor([prompt])
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    margin = greedy_margin(output.scores) if beams == 1 else beam_margin(output.scores, beams)
    return Decoded(output.sequences[0].tolist(), margin)


def continue_text(model: PreTrainedModel, prompt: list[int]) -> Decoded:
    """Continue `prompt` greedily under the generation defaults that the model's folder holds."""
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        num_beams=1,
        output_scores=True,
        return_dict_in_generate=True,
    )
    return Decoded(output.sequences[0].tolist(), greedy_margin(output.scores))


def greedy_margin(scores: tuple[torch.Tensor, ...]) -> float:
    """The smallest gap between the best and the second-best logit of any step."""
    return min(gap(step.flatten(), 1) for step in scores)


def beam_margin(scores: tuple[torch.Tensor, ...], beams: int) -> float:
    """The smallest gap between the last candidate kept and the first dropped, of any step and at the end.

    `scores` holds each step's log-probabilities `[beams, vocab]` in the order of the running beams.
    """
    running = torch.full((beams, 1), -1e9)
    running[0] = 0.0
    margins = []
    for step in scores:
        candidates = (running + step).flatten()
        margins.append(gap(candidates, beams))
        running = candidates.topk(beams).values[:, None]
    return min(margins + [gap(running.flatten(), 1)])


def gap(values: torch.Tensor, kept: int) -> float:
    """The difference between the last of the `kept` largest values and the next one."""
    top = values.topk(kept + 1).values
    return (top[kept - 1] - top[kept]).nan_to_num(torch.inf).item()
