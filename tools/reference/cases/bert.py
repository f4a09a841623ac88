"""BERT: heads, activations, odd sizes, and the names old uploads use."""

import torch

from case import Config
from pooling import mean_pool_normalised
from safetensors_case import SafetensorsCase, Tensors
from samples import answers, classes, embeddings_by, fillings, token_classes
from sentence import sentence_files
from vocabularies import pieces, word_piece, word_piece_files

SMALL = dict(
    vocab_size=67,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=44,
    max_position_embeddings=37,
)


def bert(name: str, model: str = "BertModel", **fields) -> SafetensorsCase:
    """A BERT case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, token_types=True, **fields)


def with_words(name: str, model: str, samples, **fields) -> SafetensorsCase:
    """A BERT case that takes text: a tokenizer beside the model, and its answers to some sentences."""
    config = dict(vocab_size=len(pieces())) | fields.pop("config", {})
    files = word_piece_files() | fields.pop("extra_files", {})
    return bert(name, model, config=config, extra_files=files, tokenizer=word_piece, samples=samples, **fields)


def google_config(config: Config) -> Config:
    """The keys of Google's uploads of 2019, with transformers' own later additions absent."""
    later = ("add_cross_attention", "classifier_dropout", "dtype", "is_decoder", "tie_word_embeddings", "use_cache")
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "transformers_version": "4.6.0.dev0",
    }


def google_tensors(tensors: Tensors) -> Tensors:
    """TensorFlow's norm names, the `bert.` prefix, a stored buffer, and the pretraining heads beside."""
    renamed = {f"bert.{tf_norm_name(name)}": tensor for name, tensor in tensors.items()}
    words = tensors["embeddings.word_embeddings.weight"]
    vocab_size, hidden = words.shape
    positions = len(tensors["embeddings.position_embeddings.weight"])
    return renamed | {
        "bert.embeddings.position_ids": torch.arange(positions)[None],
        "cls.predictions.bias": torch.linspace(-1, 1, vocab_size),
        "cls.predictions.transform.dense.weight": torch.eye(hidden),
        "cls.predictions.transform.dense.bias": torch.zeros(hidden),
        "cls.predictions.transform.LayerNorm.gamma": torch.ones(hidden),
        "cls.predictions.transform.LayerNorm.beta": torch.zeros(hidden),
        "cls.predictions.decoder.weight": words.clone(),
        "cls.seq_relationship.weight": torch.ones(2, hidden),
        "cls.seq_relationship.bias": torch.zeros(2),
    }


def tf_norm_name(name: str) -> str:
    """`LayerNorm.weight` is `LayerNorm.gamma` in TensorFlow, `.bias` is `.beta`."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


CASES = [
    bert("bert-base", config=dict(hidden_size=60, num_attention_heads=5, intermediate_size=88)),
    with_words("bert-masked-lm", "BertForMaskedLM", fillings),
    bert("bert-masked-lm-untied", "BertForMaskedLM", config=dict(tie_word_embeddings=False)),
    with_words(
        "bert-sequence-classification",
        "BertForSequenceClassification",
        classes,
        config=dict(
            id2label={0: "negative", 1: "neutral", 2: "positive"},
            label2id={"negative": 0, "neutral": 1, "positive": 2},
        ),
    ),
    with_words("bert-token-classification", "BertForTokenClassification", token_classes, config=dict(num_labels=5)),
    with_words("bert-question-answering", "BertForQuestionAnswering", answers),
    with_words(
        "bert-sentence",
        "BertModel",
        embeddings_by(mean_pool_normalised),
        sentence_embedding=mean_pool_normalised,
        extra_files=sentence_files(SMALL["hidden_size"], "mean_tokens"),
    ),
    bert("bert-gelu-new", config=dict(hidden_act="gelu_new")),
    bert("bert-relu", config=dict(hidden_act="relu")),
    bert("bert-silu", "BertForMaskedLM", config=dict(hidden_act="silu")),
    bert("bert-norm-eps", config=dict(layer_norm_eps=0.03)),
    bert(
        "bert-odd-sizes",
        config=dict(
            vocab_size=97,
            hidden_size=45,
            num_attention_heads=5,
            intermediate_size=70,
            type_vocab_size=3,
        ),
        lengths=(13, 1, 9),
    ),
    bert("bert-f16", dtype="float16"),
    bert("bert-sharded", "BertForMaskedLM", shard_bytes=40_000),
    bert("bert-old-names", edit_config=google_config, edit_tensors=google_tensors),
]
