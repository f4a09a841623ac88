"""ALBERT: groups of layers that share weights, layers within a group, a narrow table of tokens."""

import pooling
from case import Config
from safetensors_case import SafetensorsCase
from sentence import sentence_files

SMALL = dict(
    vocab_size=67,
    embedding_size=19,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=44,
    max_position_embeddings=37,
)


def albert(name: str, model: str = "AlbertModel", **fields) -> SafetensorsCase:
    """An ALBERT case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, token_types=True, **fields)


def old_config(config: Config) -> Config:
    """The keys of `albert-base-v2`."""
    kept = {key: value for key, value in config.items() if key not in ("dtype", "tie_word_embeddings")}
    return kept | {
        "down_scale_factor": 1,
        "gap_size": 0,
        "net_structure_type": 0,
        "num_memory_blocks": 0,
        "position_embedding_type": "absolute",
    }


CASES = [
    albert("albert-base"),
    albert("albert-groups", config=dict(num_hidden_layers=7, num_hidden_groups=3)),
    albert("albert-inner-groups", config=dict(num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)),
    albert("albert-masked-lm", "AlbertForMaskedLM", config=dict(hidden_act="relu")),
    albert("albert-masked-lm-untied", "AlbertForMaskedLM", config=dict(tie_word_embeddings=False)),
    albert("albert-old-config", "AlbertForMaskedLM", edit_config=old_config, padding="left"),
    albert("albert-sequence-classification", "AlbertForSequenceClassification", config=dict(num_labels=3)),
    albert("albert-token-classification", "AlbertForTokenClassification", config=dict(num_labels=5)),
    albert("albert-question-answering", "AlbertForQuestionAnswering"),
    albert("albert-multiple-choice", "AlbertForMultipleChoice", lengths=(9, 11, 5, 7), choices=2),
    albert(
        "albert-sentence",
        sentence_embedding=pooling.mean_sqrt_len,
        extra_files=sentence_files(SMALL["hidden_size"], "mean_sqrt_len_tokens", normalise=False),
    ),
]
