"""DeBERTa and DeBERTa-v2/v3: which of contents and positions meet, classes of distances, the convolution, heads."""

import torch

from case import Config
from pooling import mean_pool_normalised
from safetensors_case import SafetensorsCase, Tensors
from sentence import sentence_files

SMALL = dict(
    vocab_size=67,
    hidden_size=30,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=41,
    max_position_embeddings=24,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
)
V3 = dict(
    position_biased_input=False,
    position_buckets=8,
    norm_rel_ebd="layer_norm",
    share_att_key=True,
    legacy=False,
)


def first(name: str, model: str = "DebertaModel", **fields) -> SafetensorsCase:
    """A case of the first version; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def second(name: str, model: str = "DebertaV2Model", **fields) -> SafetensorsCase:
    """A case with the switches of DeBERTa-v3."""
    config = SMALL | V3 | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def published_first(config: Config) -> Config:
    """The keys of `deberta-base`."""
    kept = {key: value for key, value in config.items() if key not in ("architectures", "dtype", "legacy")}
    return kept | {"padding_idx": 0, "pos_att_type": "c2p|p2c", "pooler_hidden_size": SMALL["hidden_size"]}


def published_third(config: Config) -> Config:
    """The keys of `deberta-v3-base`."""
    kept = {key: value for key, value in config.items() if key not in ("architectures", "dtype", "legacy")}
    return kept | {"pos_att_type": "p2c|c2p"}


def published_tensors(tensors: Tensors) -> Tensors:
    """The prefix, and beside the base model a buffer, a table that is not used, and heads of its training."""
    renamed = {f"deberta.{name}": tensor for name, tensor in tensors.items()}
    width, positions = SMALL["hidden_size"], SMALL["max_position_embeddings"]
    return renamed | {
        "deberta.embeddings.position_ids": torch.arange(positions)[None],
        "deberta.embeddings.position_embeddings.weight": torch.ones(positions, width),
        "lm_predictions.lm_head.bias": torch.zeros(SMALL["vocab_size"]),
        "lm_predictions.lm_head.dense.weight": torch.eye(width),
        "lm_predictions.lm_head.dense.bias": torch.zeros(width),
        "lm_predictions.lm_head.LayerNorm.weight": torch.ones(width),
        "lm_predictions.lm_head.LayerNorm.bias": torch.zeros(width),
    }


def published_third_tensors(tensors: Tensors) -> Tensors:
    """The same with the discriminator's head."""
    width = SMALL["hidden_size"]
    return published_tensors(tensors) | {
        "mask_predictions.dense.weight": torch.eye(width),
        "mask_predictions.classifier.weight": torch.ones(1, width),
    }


CASES = [
    first("deberta-base"),
    first("deberta-c2p", config=dict(pos_att_type=["c2p"], type_vocab_size=2), token_types=True),
    first("deberta-p2c", padding="left", config=dict(pos_att_type=["p2c"], position_biased_input=False)),
    first("deberta-no-positions", config=dict(relative_attention=False, pos_att_type=None)),
    first("deberta-long", lengths=(23, 17), config=dict(max_relative_positions=6, layer_norm_eps=0.01)),
    first("deberta-masked-lm-legacy", "DebertaForMaskedLM"),
    first("deberta-masked-lm", "DebertaForMaskedLM", config=dict(legacy=False, hidden_act="relu")),
    first(
        "deberta-sequence-classification",
        "DebertaForSequenceClassification",
        config=dict(num_labels=3, pooler_hidden_act="tanh"),
    ),
    first("deberta-token-classification", "DebertaForTokenClassification", config=dict(num_labels=5)),
    first("deberta-question-answering", "DebertaForQuestionAnswering"),
    first(
        "deberta-published",
        config=dict(position_biased_input=False),
        edit_config=published_first,
        edit_tensors=published_tensors,
    ),
    second("deberta-v3-base"),
    second("deberta-v3-long", lengths=(61, 40)),
    second(
        "deberta-v3-usual-buckets",
        "DebertaV2ForTokenClassification",
        lengths=(530,),
        config=dict(position_buckets=256, max_position_embeddings=512, hidden_size=24, num_labels=11),
    ),
    second("deberta-v3-one-token", "DebertaV2ForMaskedLM", lengths=(1, 1)),
    second(
        "deberta-v3-published",
        edit_config=published_third,
        edit_tensors=published_third_tensors,
    ),
    second("deberta-v3-masked-lm", "DebertaV2ForMaskedLM", padding="left"),
    second("deberta-v3-sequence-classification", "DebertaV2ForSequenceClassification", config=dict(num_labels=3)),
    second("deberta-v3-token-classification", "DebertaV2ForTokenClassification", config=dict(num_labels=5)),
    second("deberta-v3-question-answering", "DebertaV2ForQuestionAnswering"),
    second("deberta-v3-multiple-choice", "DebertaV2ForMultipleChoice", lengths=(9, 11, 5, 7), choices=2),
    second(
        "deberta-v3-sentence",
        sentence_embedding=mean_pool_normalised,
        extra_files=sentence_files(SMALL["hidden_size"], "mean_tokens"),
    ),
    second(
        "deberta-v2-own-projections",
        config=dict(share_att_key=False, norm_rel_ebd="none", pos_att_type="c2p|p2c", position_buckets=7),
    ),
    second(
        "deberta-v2-convolution",
        "DebertaV2ForMaskedLM",
        config=dict(conv_kernel_size=3, conv_act="gelu", legacy=True, type_vocab_size=2),
        token_types=True,
        padding="left",
    ),
    second("deberta-v2-grouped-convolution", config=dict(conv_kernel_size=5, conv_groups=3, position_buckets=-1)),
    second(
        "deberta-v2-no-buckets",
        lengths=(23, 17),
        config=dict(position_buckets=-1, position_biased_input=True, max_relative_positions=9, share_att_key=False),
    ),
    second("deberta-v2-p2c", config=dict(pos_att_type=["p2c"], share_att_key=False)),
]
