"""T5, mT5 and UMT5: plain and gated perceptrons, tied and untied heads, buckets, heads on either half."""

import numpy as np
import torch

from case import Config
from safetensors_case import SafetensorsCase, Tensors
from vocabularies import as_json

SMALL = dict(
    vocab_size=67,
    d_model=24,
    d_kv=5,
    d_ff=32,
    num_layers=2,
    num_heads=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    decoder_start_token_id=0,
)

# A tied head reads what the layers add, and not the token that was read.
TIED = {"shared.weight": 5.0, "SelfAttention.o": 20.0, "EncDecAttention.o": 3.0, "wo.weight": 20.0}


def t5(name: str, model: str = "T5ForConditionalGeneration", **fields) -> SafetensorsCase:
    """A T5 case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    if "edit_tensors" not in fields or fields["edit_tensors"] is first_tensors:
        fields["factors"] = TIED
    else:
        fields["factors"] = {"SelfAttention.o": 3.0, "wo.weight": 3.0}
    return SafetensorsCase(
        name=name,
        model=model,
        config=config,
        lengths=fields.pop("lengths", (23, 9, 4)),
        decoder_lengths=fields.pop("decoder_lengths", (7, 17, 12)),
        **fields,
    )


def one_text(name: str, model: str, **fields) -> SafetensorsCase:
    """A T5 case that is given one text alone."""
    return t5(name, model, decoder_lengths=None, **fields)


def untied(tensors: Tensors) -> Tensors:
    """A matrix of scores of its own."""
    shape = tensors["shared.weight"].shape
    matrix = np.random.default_rng(11).normal(0.0, 3.0 / np.sqrt(shape[1]), tuple(shape))
    return tensors | {"lm_head.weight": torch.from_numpy(matrix).to(tensors["shared.weight"].dtype)}


def untied_and_scaled(tensors: Tensors) -> Tensors:
    """A matrix of scores of its own, for vectors that are scaled all the same."""
    width = tensors["shared.weight"].shape[1]
    return tensors | {"lm_head.weight": untied(tensors)["lm_head.weight"] * width**0.5}


def version_1_1(config: Config) -> Config:
    """The keys of Google's uploads of version 1.1, which say by an untied head that nothing is scaled."""
    later = ("scale_decoder_outputs", "dense_act_fn", "is_gated_act", "is_decoder", "classifier_dropout", "dtype")
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {"tie_word_embeddings": False, "output_past": True, "tokenizer_class": "T5Tokenizer"}


def first_config(config: Config) -> Config:
    """The keys of the first uploads."""
    kept = {key: value for key, value in version_1_1(config).items() if key not in ("tie_word_embeddings", "use_cache")}
    return kept | {
        "n_positions": 512,
        "task_specific_params": {"summarization": {"early_stopping": True, "num_beams": 4, "prefix": "summarize: "}},
    }


def first_tensors(tensors: Tensors) -> Tensors:
    """The table under each of its names, and biases of cross-attention that nothing reads."""
    table = tensors["shared.weight"]
    buckets = tensors["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    return tensors | {
        "encoder.embed_tokens.weight": table.clone(),
        "decoder.embed_tokens.weight": table.clone(),
        "lm_head.weight": table.clone(),
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.zeros_like(buckets),
    }


def with_activation(config: Config) -> Config:
    """An activation that is spelled out beside `feed_forward_proj`."""
    return config | {"dense_act_fn": "silu"}


RULES = {
    "generation_config.json": as_json(
        {
            "decoder_start_token_id": 3,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "no_repeat_ngram_size": 2,
            "encoder_no_repeat_ngram_size": 2,
            "suppress_tokens": [8, 9, 10, 11, 12, 13],
            "begin_suppress_tokens": [14, 15, 16, 17, 18, 19, 20],
            "transformers_version": "4.46.0",
        }
    )
}

CASES = [
    t5("t5", config=dict(num_layers=3, num_decoder_layers=2)),
    t5("t5-left-padded", padding="left", decoder_padding="left"),
    t5("t5-version-1-1", config=dict(feed_forward_proj="gated-gelu"), edit_config=version_1_1, edit_tensors=untied),
    t5(
        "t5-unscaled",
        config=dict(feed_forward_proj="gated-silu", tie_word_embeddings=False, layer_norm_epsilon=0.01),
        edit_tensors=untied,
    ),
    t5("t5-activation", config=dict(feed_forward_proj="gelu"), edit_config=with_activation),
    t5("t5-first-config", edit_config=first_config, edit_tensors=first_tensors),
    t5(
        "t5-odd-sizes",
        config=dict(
            vocab_size=97,
            d_model=33,
            d_kv=7,
            d_ff=50,
            num_heads=2,
            relative_attention_num_buckets=7,
            relative_attention_max_distance=5,
        ),
        lengths=(19, 1),
        decoder_lengths=(1, 13),
    ),
    t5("t5-default-buckets", config=dict(relative_attention_num_buckets=32, relative_attention_max_distance=128)),
    t5("t5-rules", extra_files=RULES),
    t5("t5-f16", dtype="float16"),
    t5("t5-base", "T5Model"),
    one_text("t5-encoder", "T5EncoderModel"),
    one_text("t5-sequence-classification", "T5ForSequenceClassification", config=dict(num_labels=5), last_token=1),
    one_text("t5-token-classification", "T5ForTokenClassification", config=dict(num_labels=4), padding="left"),
    one_text("t5-question-answering", "T5ForQuestionAnswering"),
    t5("mt5", "MT5ForConditionalGeneration", edit_tensors=untied),
    t5("umt5", "UMT5ForConditionalGeneration", edit_tensors=untied_and_scaled, config=dict(num_layers=3)),
    t5("umt5-tied", "UMT5ForConditionalGeneration", padding="left"),
    one_text("umt5-encoder", "UMT5EncoderModel", padding="left"),
]
