"""Decoders that descend from LLaMA: windows, norms of heads, scaled and parallel layers."""

from case import Config
from cases.llama import SMALL
from safetensors_case import SafetensorsCase

WINDOW = 4

LONGROPE = dict(
    rope_type="longrope",
    rope_theta=100.0,
    short_factor=[1.0, 1.1, 1.3, 1.5, 1.7, 2.0, 2.4, 2.9],
    long_factor=[1.2, 1.4, 2.0, 3.0, 4.5, 6.0, 7.5, 9.0],
    original_max_position_embeddings=12,
)

LONG = dict(rope_parameters=LONGROPE, max_position_embeddings=48, original_max_position_embeddings=12)


def older_names(config: Config) -> Config:
    """The keys of version 4: rotary parameters at the top."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters["rope_theta"]
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    config["torch_dtype"] = config.pop("dtype")
    return config


def family(prefix: str, stem: str, **shared):
    """Makes the cases of one family: model classes begin with `stem`."""

    def make(name: str, head: str = "ForCausalLM", **fields) -> SafetensorsCase:
        config = SMALL | shared | fields.pop("config", {})
        if config["head_dim"] is None:
            del config["head_dim"]  # most config classes have no such key
        model = stem + head
        return SafetensorsCase(name=f"{prefix}-{name}", model=model, config=config, **fields)

    return make


mistral = family("mistral", "Mistral", sliding_window=WINDOW)
qwen2 = family("qwen2", "Qwen2")
qwen3 = family("qwen3", "Qwen3", head_dim=6)
gemma = family("gemma", "Gemma")
gemma2 = family("gemma2", "Gemma2", sliding_window=WINDOW, query_pre_attn_scalar=11, num_hidden_layers=3)
gemma3 = family("gemma3", "Gemma3", sliding_window=WINDOW, query_pre_attn_scalar=11)
phi = family("phi", "Phi", hidden_size=48, head_dim=None)
phi3 = family("phi3", "Phi3", pad_token_id=None, hidden_size=48, head_dim=None, num_attention_heads=3, num_key_value_heads=1)
stablelm = family("stablelm", "StableLm", hidden_size=48, head_dim=None)
starcoder2 = family("starcoder2", "Starcoder2", hidden_size=48, head_dim=None)
olmo2 = family("olmo2", "Olmo2", hidden_size=48, head_dim=None)
olmo3 = family("olmo3", "Olmo3", hidden_size=48, head_dim=None, sliding_window=WINDOW, num_hidden_layers=5)
glm = family("glm", "Glm", hidden_size=48, pad_token_id=None, eos_token_id=2)
glm4 = family("glm4", "Glm4", hidden_size=48, pad_token_id=None, eos_token_id=2)
cohere = family("cohere", "Cohere", logit_scale=1.3, tie_word_embeddings=False, hidden_size=48, head_dim=None, layer_norm_eps=0.01)
cohere2 = family("cohere2", "Cohere2", logit_scale=1.3, tie_word_embeddings=False, sliding_window=WINDOW, num_hidden_layers=5)
granite = family("granite", "Granite", hidden_size=48, head_dim=None)
smollm3 = family("smollm3", "SmolLM3", pad_token_id=None, hidden_size=48, head_dim=None, num_hidden_layers=5)

CLASSES = dict(num_labels=3, pad_token_id=0)

CASES = [
    mistral("window", padding="left"),
    mistral("no-window", config=dict(sliding_window=None, head_dim=None, hidden_size=36)),
    mistral("base", "Model", config=dict(hidden_act="gelu")),
    mistral("classes", "ForSequenceClassification", config=CLASSES),
    mistral("older-names", edit_config=older_names),
    qwen2("plain", config=dict(head_dim=None, hidden_size=36), padding="left"),
    qwen2("tied", config=dict(head_dim=None, hidden_size=36, tie_word_embeddings=True)),
    qwen2(
        "windows",
        config=dict(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, num_hidden_layers=3),
    ),
    qwen2("classes", "ForSequenceClassification", config=CLASSES | dict(id2label={0: "a", 1: "b", 2: "c"})),
    qwen2("base", "Model"),
    qwen3("plain", padding="left"),
    qwen3("biases", config=dict(attention_bias=True, rms_norm_eps=0.02)),
    qwen3("windows", config=dict(use_sliding_window=True, sliding_window=3, max_window_layers=1), lengths=(9, 9, 5)),
    qwen3("base", "Model"),
    qwen3("classes", "ForSequenceClassification", config=CLASSES, padding="left"),
    gemma("plain", config=dict(head_dim=16)),
    gemma("untied-biases", config=dict(tie_word_embeddings=False, attention_bias=True), padding="left"),
    gemma("classes", "ForSequenceClassification", config=CLASSES),
    gemma2("plain", padding="left"),
    gemma2("no-caps", config=dict(attn_logit_softcapping=None, final_logit_softcapping=None)),
    gemma2("small-caps", config=dict(attn_logit_softcapping=1.5, final_logit_softcapping=8.0, tie_word_embeddings=False)),
    gemma2("listed-layers", config=dict(layer_types=["full_attention", "full_attention", "sliding_attention"])),
    gemma2("base", "Model"),
    gemma3("plain", "ForCausalLM", config=dict(num_hidden_layers=7), padding="left"),
    gemma3(
        "rope",
        config=dict(
            num_hidden_layers=3,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", factor=3.0, rope_theta=300.0),
                sliding_attention=dict(rope_type="default", rope_theta=20.0),
            ),
        ),
    ),
    gemma3("base", "TextModel", config=dict(attention_bias=True)),
    phi("plain", padding="left"),
    phi("norms", config=dict(qk_layernorm=True, layer_norm_eps=0.01)),
    phi(
        "older-names",
        config=dict(rope_parameters=dict(rope_type="default", rope_theta=50.0, partial_rotary_factor=0.25)),
        edit_config=older_names,
    ),
    phi("own-keys", config=dict(num_key_value_heads=6)),
    phi("base", "Model"),
    phi("classes", "ForSequenceClassification", config=CLASSES),
    phi3("plain", padding="left"),
    phi3("window", config=dict(sliding_window=WINDOW)),
    phi3("short", config=LONG, lengths=(11, 7, 4)),
    phi3("long", config=LONG, lengths=(23, 17)),
    phi3(
        "partial",
        config=dict(
            hidden_size=60,
            rope_parameters=dict(rope_type="default", rope_theta=50.0, partial_rotary_factor=0.6),
            num_attention_heads=3,
            max_position_embeddings=48,
        ),
    ),
    phi3("base", "Model"),
    stablelm("plain", padding="left"),
    stablelm("parallel", config=dict(use_parallel_residual=True, use_qkv_bias=True)),
    stablelm("norms", config=dict(qk_layernorm=True, layer_norm_eps=0.01)),
    stablelm("classes", "ForSequenceClassification", config=CLASSES),
    starcoder2("plain", config=dict(tie_word_embeddings=False), padding="left"),
    starcoder2("tied", "Model"),
    starcoder2("no-biases", config=dict(use_bias=False, tie_word_embeddings=False, sliding_window=WINDOW)),
    olmo2("plain", padding="left"),
    olmo2("biases", config=dict(attention_bias=True, num_key_value_heads=6, rms_norm_eps=0.02)),
    olmo3("plain", padding="left"),
    olmo3(
        "rope",
        config=dict(
            attention_bias=True,
            layer_types=["full_attention", "full_attention", "sliding_attention"],
            num_hidden_layers=3,
            rope_parameters=dict(
                full_attention=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, rope_theta=50.0),
                sliding_attention=dict(rope_type="default", rope_theta=50.0),
            ),
        ),
    ),
    glm("plain", padding="left"),
    glm("no-biases", config=dict(attention_bias=False, rms_norm_eps=0.02, hidden_act="gelu")),
    glm("classes", "ForSequenceClassification", config=CLASSES),
    glm4("plain", padding="left"),
    glm4("base", "Model", config=dict(attention_bias=False)),
    cohere("plain", padding="left"),
    cohere("norms", config=dict(use_qk_norm=True, attention_bias=True, logit_scale=0.7)),
    cohere2("plain", padding="left"),
    cohere2("biases", config=dict(attention_bias=True)),
    granite("plain", padding="left"),
    granite(
        "factors",
        config=dict(
            embedding_multiplier=3.0,
            logits_scaling=0.7,
            attention_multiplier=0.3,
            residual_multiplier=0.6,
            attention_bias=True,
            mlp_bias=True,
        ),
    ),
    smollm3("plain", padding="left"),
    smollm3(
        "windows",
        config=dict(
            use_sliding_window=True,
            sliding_window=WINDOW,
            no_rope_layers=[1, 0, 0, 1, 1],
            attention_bias=True,
        ),
    ),
]
