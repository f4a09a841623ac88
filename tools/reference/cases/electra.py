"""ELECTRA: discriminator and generator, with and without a narrower table of tokens."""

import torch

from cases.bert import tf_norm_name
from safetensors_case import SafetensorsCase, Tensors

SMALL = dict(
    vocab_size=67,
    embedding_size=19,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=44,
    max_position_embeddings=37,
)


def electra(name: str, model: str = "ElectraModel", **fields) -> SafetensorsCase:
    """An ELECTRA case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, token_types=True, **fields)


def old_tensors(tensors: Tensors) -> Tensors:
    """TensorFlow's norm names and a stored buffer."""
    renamed = {tf_norm_name(name): tensor for name, tensor in tensors.items()}
    return renamed | {"electra.embeddings.position_ids": torch.arange(SMALL["max_position_embeddings"])[None]}


CASES = [
    electra("electra-base", padding="left"),
    electra("electra-base-wide", config=dict(embedding_size=32)),
    electra("electra-discriminator", "ElectraForPreTraining", config=dict(hidden_act="gelu_new")),
    electra("electra-discriminator-old-names", "ElectraForPreTraining", edit_tensors=old_tensors),
    electra("electra-generator", "ElectraForMaskedLM", config=dict(hidden_act="relu")),
    electra("electra-generator-untied", "ElectraForMaskedLM", config=dict(tie_word_embeddings=False)),
    electra("electra-sequence-classification", "ElectraForSequenceClassification", config=dict(num_labels=3)),
    electra("electra-token-classification", "ElectraForTokenClassification", config=dict(num_labels=5)),
    electra("electra-question-answering", "ElectraForQuestionAnswering"),
    electra("electra-multiple-choice", "ElectraForMultipleChoice", lengths=(9, 11, 5, 7), choices=2),
]
