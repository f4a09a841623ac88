"""MPNet: heads, and texts long enough for every class of distances."""

import pooling
from safetensors_case import SafetensorsCase
from sentence import sentence_files

SMALL = dict(
    vocab_size=67,
    hidden_size=30,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=41,
    max_position_embeddings=37,
    layer_norm_eps=1e-5,
)


def mpnet(name: str, model: str = "MPNetModel", **fields) -> SafetensorsCase:
    """An MPNet case; upper-level config arguments go in `config`."""
    config = SMALL | fields.pop("config", {})
    return SafetensorsCase(name=name, model=model, config=config, pad=1, **fields)


CASES = [
    mpnet("mpnet-base", pads_inside=True),
    mpnet(
        "mpnet-long",
        "MPNetForTokenClassification",
        config=dict(max_position_embeddings=162, num_labels=9),
        lengths=(160, 133),
    ),
    mpnet("mpnet-more-buckets", padding="left", config=dict(relative_attention_num_buckets=35)),
    mpnet("mpnet-masked-lm", "MPNetForMaskedLM", config=dict(hidden_act="gelu_new")),
    mpnet("mpnet-sequence-classification", "MPNetForSequenceClassification", config=dict(num_labels=3)),
    mpnet("mpnet-token-classification", "MPNetForTokenClassification", config=dict(num_labels=5, pad_token_id=3)),
    mpnet("mpnet-question-answering", "MPNetForQuestionAnswering"),
    mpnet("mpnet-multiple-choice", "MPNetForMultipleChoice", lengths=(9, 11, 5, 7), choices=2),
    mpnet(
        "mpnet-sentence",
        sentence_embedding=lambda hidden, mask: pooling.unit(pooling.weighted_mean(hidden, mask)),
        extra_files=sentence_files(SMALL["hidden_size"], "weightedmean_tokens"),
    ),
]
