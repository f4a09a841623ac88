"""ModernBERT: windows shorter than the text, both spellings of layers and rotary bases, biases, pooling."""

import pooling
from case import Config
from safetensors_case import SafetensorsCase
from sentence import sentence_files

SMALL = dict(
    vocab_size=67,
    hidden_size=24,
    intermediate_size=37,
    num_hidden_layers=4,
    num_attention_heads=3,
    local_attention=6,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    cls_token_id=1,
    sep_token_id=2,
)
THETAS = {
    "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
}


def modernbert(name: str, model: str = "ModernBertModel", **fields) -> SafetensorsCase:
    """A ModernBERT case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, **fields)


def published_config(config: Config) -> Config:
    """The keys of `ModernBERT-base`."""
    later = ("dtype", "layer_types", "rope_parameters")
    kept = {key: value for key, value in config.items() if key not in later}
    return kept | {
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "gradient_checkpointing": False,
        "layer_norm_eps": 1e-5,
        "local_rope_theta": 10000.0,
        "position_embedding_type": "absolute",
        "reference_compile": True,
        "repad_logits_with_grad": False,
    }


def every_second(config: Config) -> Config:
    """Older keys with other values than the usual ones."""
    bases = {"global_attn_every_n_layers": 2, "global_rope_theta": 700.0, "local_rope_theta": 30.0}
    return published_config(config) | bases


CASES = [
    modernbert("modernbert-base"),
    modernbert("modernbert-left-padded", padding="left", config=dict(local_attention=3, norm_eps=0.01)),
    modernbert(
        "modernbert-biases",
        "ModernBertForMaskedLM",
        config=dict(
            attention_bias=True, mlp_bias=True, norm_bias=True, classifier_bias=True, classifier_activation="silu"
        ),
    ),
    modernbert(
        "modernbert-layer-types",
        "ModernBertForMaskedLM",
        config=dict(
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters=THETAS,
            hidden_activation="gelu_new",
        ),
    ),
    modernbert("modernbert-masked-lm-untied", "ModernBertForMaskedLM", config=dict(tie_word_embeddings=False)),
    modernbert(
        "modernbert-no-decoder-bias",
        "ModernBertForMaskedLM",
        config=dict(decoder_bias=False),
        edit_config=published_config,
    ),
    modernbert("modernbert-every-second", "ModernBertForTokenClassification", edit_config=every_second),
    modernbert(
        "modernbert-sequence-classification-cls",
        "ModernBertForSequenceClassification",
        config=dict(num_labels=3, classifier_pooling="cls"),
    ),
    modernbert(
        "modernbert-sequence-classification-mean",
        "ModernBertForSequenceClassification",
        config=dict(num_labels=3, classifier_pooling="mean"),
        padding="left",
    ),
    modernbert("modernbert-question-answering", "ModernBertForQuestionAnswering"),
    modernbert(
        "modernbert-multiple-choice",
        "ModernBertForMultipleChoice",
        lengths=(9, 11, 5, 7),
        choices=2,
        padding="left",
    ),
    modernbert(
        "modernbert-multiple-choice-mean",
        "ModernBertForMultipleChoice",
        config=dict(classifier_pooling="mean"),
        lengths=(9, 11, 5, 7),
        choices=2,
    ),
    modernbert("modernbert-long", lengths=(150, 90), config=dict(local_attention=32)),
    modernbert(
        "modernbert-sentence",
        sentence_embedding=lambda hidden, mask: pooling.unit(pooling.cls(hidden, mask)),
        extra_files=sentence_files(SMALL["hidden_size"], "cls_token"),
    ),
]
