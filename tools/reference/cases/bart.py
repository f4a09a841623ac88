"""BART, mBART, Marian and Pegasus: positions, norms, shared and own tables, rules of generation."""

import numpy as np
import torch

from case import Config
from safetensors_case import SafetensorsCase, Tensors
from vocabularies import as_json

SMALL = dict(
    vocab_size=67,
    d_model=24,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=3,
    decoder_attention_heads=3,
    encoder_ffn_dim=36,
    decoder_ffn_dim=36,
    max_position_embeddings=33,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    forced_eos_token_id=2,
    decoder_start_token_id=2,
)

# What the source and the last token add must not outweigh all that came before.
POST_NORM = {"self_attn.out_proj": 3.0, "encoder_attn.out_proj": 0.4, "decoder.embed_positions": 4.0}
PRE_NORM = {"self_attn.out_proj": 10.0, "fc2": 10.0, "encoder_attn.out_proj": 2.0, "decoder.embed_positions": 4.0}


def bart(name: str, model: str = "BartForConditionalGeneration", **fields) -> SafetensorsCase:
    """A case of BART or its descendants; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    pre_norm = model.startswith(("MBart", "Pegasus"))
    return SafetensorsCase(
        name=name,
        model=model,
        config=config,
        factors=PRE_NORM if pre_norm else POST_NORM,
        fewest_distinct=4,
        decoder_lengths=fields.pop("decoder_lengths", (5, 9, 8)),
        **fields,
    )


def one_text(name: str, model: str, **fields) -> SafetensorsCase:
    """A case that is given one text alone."""
    return bart(name, model, decoder_lengths=None, last_token=SMALL["eos_token_id"], **fields)


def facebook_config(config: Config) -> Config:
    """The keys of the first uploads, generation's among them."""
    later = ("dtype", "is_decoder", "forced_eos_token_id", "scale_embedding", "tie_word_embeddings", "use_cache")
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {
        "_num_labels": 3,
        "add_bias_logits": False,
        "add_final_layer_norm": False,
        "classif_dropout": 0.0,
        "early_stopping": True,
        "extra_pos_embeddings": 2,
        "forced_bos_token_id": 1,
        "forced_eos_token_id": 2,
        "gradient_checkpointing": False,
        "length_penalty": 2.0,
        "max_length": 28,
        "min_length": 12,
        "no_repeat_ngram_size": 3,
        "normalize_before": False,
        "normalize_embedding": True,
        "num_beams": 4,
        "num_hidden_layers": config["encoder_layers"],
        "output_past": True,
        "prefix": " ",
        "scale_embedding": False,
        "static_position_embeddings": False,
        "task_specific_params": {"summarization": {"length_penalty": 2.0, "max_length": 142, "num_beams": 4}},
    }


def facebook_tensors(tensors: Tensors) -> Tensors:
    """The table under each of its names, and no bias of the scores."""
    table = tensors["model.shared.weight"]
    kept = {name: tensor for name, tensor in tensors.items() if name != "final_logits_bias"}
    return kept | {
        "model.encoder.embed_tokens.weight": table.clone(),
        "model.decoder.embed_tokens.weight": table.clone(),
        "lm_head.weight": table.clone(),
        "model.encoder.version": torch.tensor([3.0]),
        "model.decoder.version": torch.tensor([3.0]),
    }


def without_positions(tensors: Tensors) -> Tensors:
    """What `MarianMTModel.save_pretrained` writes."""
    return {name: tensor for name, tensor in tensors.items() if "embed_positions" not in name}


def own_positions(tensors: Tensors) -> Tensors:
    """Tables of positions that are no sinusoids."""
    generator = np.random.default_rng(5)
    draw = lambda tensor: torch.from_numpy(generator.normal(0.0, 0.7, tuple(tensor.shape))).to(tensor.dtype)
    return {name: draw(tensor) if "embed_positions" in name else tensor for name, tensor in sorted(tensors.items())}


def marian(name: str, **fields) -> SafetensorsCase:
    """A Marian case with the settings of the Helsinki group's uploads."""
    config = dict(activation_function="swish", scale_embedding=True, decoder_start_token_id=0) | fields.pop("config", {})
    edit = fields.pop("edit_tensors", without_positions)
    return bart(name, "MarianMTModel", config=config, edit_tensors=edit, extra_files=MARIAN_RULES, **fields)


MARIAN_RULES = {
    "generation_config.json": as_json(
        {
            "bad_words_ids": [[0]],
            "bos_token_id": 2,
            "decoder_start_token_id": 0,
            "eos_token_id": 2,
            "forced_eos_token_id": 2,
            "max_length": 30,
            "num_beams": 4,
            "pad_token_id": 0,
            "transformers_version": "4.46.0",
        }
    )
}

RULES = {
    "generation_config.json": as_json(
        {
            "bad_words_ids": [[7], [8, 9], [10], [11], [12], [13], [14, 15, 16]],
            "bos_token_id": 1,
            "decoder_start_token_id": 2,
            "early_stopping": True,
            "eos_token_id": 2,
            "forced_bos_token_id": 5,
            "forced_eos_token_id": 2,
            "length_penalty": 2.0,
            "max_length": 31,
            "min_length": 25,
            "no_repeat_ngram_size": 3,
            "num_beams": 4,
            "pad_token_id": 0,
            "transformers_version": "4.46.0",
        }
    )
}

CASES = [
    bart("bart"),
    bart("bart-left-padded", padding="left", decoder_padding="left"),
    bart(
        "bart-halves",
        config=dict(
            encoder_layers=3,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=4,
            encoder_ffn_dim=26,
            decoder_ffn_dim=45,
            scale_embedding=True,
            activation_function="relu",
        ),
    ),
    bart("bart-odd-sizes", config=dict(vocab_size=97, d_model=27, encoder_ffn_dim=41), lengths=(13, 1), decoder_lengths=(1, 11)),
    bart("bart-untied", config=dict(tie_word_embeddings=False)),
    bart("bart-rules", extra_files=RULES),
    bart("bart-first-config", edit_config=facebook_config, edit_tensors=facebook_tensors),
    bart("bart-bf16", dtype="bfloat16"),
    bart("bart-base", "BartModel"),
    one_text("bart-sequence-classification", "BartForSequenceClassification"),
    one_text("bart-question-answering", "BartForQuestionAnswering"),
    bart("mbart", "MBartForConditionalGeneration", config=dict(scale_embedding=True)),
    bart("mbart-left-padded", "MBartForConditionalGeneration", padding="left", config=dict(activation_function="relu")),
    bart("mbart-base", "MBartModel"),
    one_text("mbart-sequence-classification", "MBartForSequenceClassification", config=dict(num_labels=4)),
    one_text("mbart-question-answering", "MBartForQuestionAnswering"),
    marian("marian"),
    marian("marian-own-tables", config=dict(share_encoder_decoder_embeddings=False, decoder_vocab_size=59)),
    marian("marian-odd-sizes", config=dict(d_model=27), padding="left", decoder_lengths=(1, 9, 4)),
    bart("marian-base", "MarianModel"),
    bart("pegasus", "PegasusForConditionalGeneration", config=dict(activation_function="relu", scale_embedding=True)),
    bart("pegasus-own-positions", "PegasusForConditionalGeneration", padding="left", edit_tensors=own_positions),
    bart("pegasus-base", "PegasusModel"),
]
