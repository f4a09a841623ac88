"""The configurations that transformers takes for a model type when it is told nothing else."""

import json
from pathlib import Path

from transformers import AutoConfig
from transformers.models.auto import modeling_auto as auto

MODEL_TYPES = (
    "albert",
    "bamba",
    "bart",
    "bert",
    "bloom",
    "camembert",
    "cohere",
    "cohere2",
    "deberta",
    "deberta-v2",
    "deepseek_v2",
    "deepseek_v3",
    "distilbert",
    "electra",
    "falcon",
    "falcon_h1",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "jamba",
    "kimi_linear",
    "lfm2",
    "llama",
    "mamba2",
    "marian",
    "mbart",
    "minimax",
    "mistral",
    "mixtral",
    "modernbert",
    "mpnet",
    "mt5",
    "nemotron_h",
    "nomic_bert",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "opt",
    "pegasus",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "recurrent_gemma",
    "roberta",
    "rwkv",
    "smollm3",
    "stablelm",
    "starcoder2",
    "t5",
    "umt5",
    "xlm-roberta",
    "xlstm",
    "zamba",
    "zamba2",
)

LANGUAGE_MODELS = (
    auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)


def write_all(path: Path) -> None:
    """Write one config a line: of the base model, then of the language model that is usual for the type."""
    lines = []
    for model_type in MODEL_TYPES:
        config = json.loads(AutoConfig.for_model(model_type).to_json_string())
        head = next(names[model_type] for names in LANGUAGE_MODELS if model_type in names)
        lines += [json.dumps(config), json.dumps(config | {"architectures": [head]})]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
