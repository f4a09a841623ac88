"""DistilBERT: heads, activations, and the keys old uploads have."""

import pooling
from case import Config
from safetensors_case import SafetensorsCase
from samples import answers, classes, fillings
from sentence import sentence_files
from vocabularies import pieces, word_piece, word_piece_files

SMALL = dict(vocab_size=67, dim=30, n_layers=3, n_heads=3, hidden_dim=47, max_position_embeddings=37)


def distilbert(name: str, model: str = "DistilBertModel", **fields) -> SafetensorsCase:
    """A DistilBERT case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def with_words(name: str, model: str, samples, **fields) -> SafetensorsCase:
    """A DistilBERT case that takes text."""
    config = dict(vocab_size=len(pieces()))
    files = word_piece_files()
    return distilbert(name, model, config=config, extra_files=files, tokenizer=word_piece, samples=samples, **fields)


def old_config(config: Config) -> Config:
    """The keys of `distilbert-base-uncased`."""
    kept = {key: value for key, value in config.items() if key not in ("dtype", "tie_word_embeddings")}
    return kept | {"tie_weights_": True, "sinusoidal_pos_embds": False, "transformers_version": "4.10.0.dev0"}


CASES = [
    distilbert("distilbert-base", padding="left"),
    with_words("distilbert-masked-lm", "DistilBertForMaskedLM", fillings),
    distilbert(
        "distilbert-masked-lm-untied",
        "DistilBertForMaskedLM",
        config=dict(tie_word_embeddings=False, activation="relu"),
    ),
    with_words("distilbert-sequence-classification", "DistilBertForSequenceClassification", classes),
    distilbert("distilbert-token-classification", "DistilBertForTokenClassification", config=dict(num_labels=5)),
    with_words("distilbert-question-answering", "DistilBertForQuestionAnswering", answers),
    distilbert("distilbert-multiple-choice", "DistilBertForMultipleChoice", lengths=(9, 11, 5, 7), choices=2),
    distilbert("distilbert-old-config", "DistilBertForMaskedLM", edit_config=old_config),
    distilbert(
        "distilbert-sentence",
        sentence_embedding=pooling.largest,
        extra_files=sentence_files(SMALL["dim"], "max_tokens", normalise=False),
    ),
]
