"""RoBERTa, XLM-RoBERTa and CamemBERT: heads, padding that positions do not count, and the names old uploads use."""

import numpy as np
import torch

import pooling
from case import Config
from cases.bert import tf_norm_name
from safetensors_case import SafetensorsCase, Tensors
from samples import answers, classes, embeddings_by, fillings, token_classes
from sentence import dense_layer, sentence_files
from vocabularies import BYTE_LEVEL_SIZE, roberta, roberta_files

SMALL = dict(
    vocab_size=67,
    hidden_size=30,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=41,
    max_position_embeddings=37,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
)


def case(name: str, model: str = "RobertaModel", **fields) -> SafetensorsCase:
    """A case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, pad=1, **fields)


def with_words(name: str, model: str, samples, **fields) -> SafetensorsCase:
    """A case that takes text: a tokenizer beside the model, and its answers to some sentences."""
    config = dict(vocab_size=BYTE_LEVEL_SIZE) | fields.pop("config", {})
    files = roberta_files() | fields.pop("extra_files", {})
    return case(name, model, config=config, extra_files=files, tokenizer=roberta, samples=samples, **fields)


def published_config(config: Config) -> Config:
    """The keys of `roberta-base`."""
    later = ("add_cross_attention", "classifier_dropout", "dtype", "is_decoder", "tie_word_embeddings", "use_cache")
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {"gradient_checkpointing": False, "position_embedding_type": "absolute"}


def published_tensors(tensors: Tensors) -> Tensors:
    """TensorFlow's norm names but for the head's, a stored buffer, a pooler, and the tied matrix twice."""
    renamed = {tf_norm_name(name): tensor for name, tensor in tensors.items()}
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    positions = len(tensors["roberta.embeddings.position_embeddings.weight"])
    return renamed | {
        "roberta.embeddings.position_ids": torch.arange(positions)[None],
        "roberta.pooler.dense.weight": torch.eye(words.shape[1]),
        "roberta.pooler.dense.bias": torch.zeros(words.shape[1]),
        "lm_head.decoder.weight": words.clone(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].clone(),
    }


DENSE = dense_layer(17, 2 * SMALL["hidden_size"])


def ends_and_dense(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """First and last token, one after the other, through a dense layer."""
    ends = np.concatenate([pooling.cls(hidden, mask), pooling.last(hidden, mask)], axis=1)
    return pooling.unit(np.tanh(ends @ DENSE["linear.weight"].T + DENSE["linear.bias"]))


CASES = [
    case("roberta-base", config=dict(hidden_size=36, num_attention_heads=4), pads_inside=True),
    with_words("roberta-masked-lm", "RobertaForMaskedLM", fillings),
    case("roberta-masked-lm-untied", "RobertaForMaskedLM", config=dict(tie_word_embeddings=False, hidden_act="relu")),
    with_words("roberta-sequence-classification", "RobertaForSequenceClassification", classes),
    with_words(
        "roberta-token-classification", "RobertaForTokenClassification", token_classes, config=dict(num_labels=5)
    ),
    with_words(
        "roberta-question-answering",
        "RobertaForQuestionAnswering",
        answers,
        config=dict(max_position_embeddings=77),
    ),
    case("roberta-multiple-choice", "RobertaForMultipleChoice", lengths=(9, 11, 5, 7, 4, 10), choices=3),
    case("roberta-left-padded", "RobertaForTokenClassification", padding="left", config=dict(num_labels=3)),
    case(
        "roberta-other-padding",
        "RobertaForMaskedLM",
        config=dict(pad_token_id=4, type_vocab_size=2),
        token_types=True,
    ),
    case(
        "roberta-old-names",
        "RobertaForMaskedLM",
        edit_config=published_config,
        edit_tensors=published_tensors,
    ),
    case("xlm-roberta-masked-lm", "XLMRobertaForMaskedLM", padding="left"),
    with_words(
        "xlm-roberta-sentence",
        "XLMRobertaModel",
        embeddings_by(ends_and_dense),
        sentence_embedding=ends_and_dense,
        extra_files=sentence_files(SMALL["hidden_size"], "cls_token", "lasttoken", dense=DENSE, longest=34),
        extra_tensors={"2_Dense/model.safetensors": DENSE},
    ),
    case("camembert-sequence-classification", "CamembertForSequenceClassification", config=dict(num_labels=4)),
    case("camembert-masked-lm", "CamembertForMaskedLM", lengths=(13, 1, 9)),
]
