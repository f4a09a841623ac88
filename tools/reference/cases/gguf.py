"""LLaMA as GGUF: storage types, rotary scalings, and the tokenizer in the file."""

from case import Config
from gguf_case import GgufCase
from samples import generated_text
from vocabularies import BYTE_LEVEL_SIZE, byte_level, byte_level_with_start

SMALL = dict(
    vocab_size=BYTE_LEVEL_SIZE,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    bos_token_id=None,
    eos_token_id=None,
)
MEDIUM = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2)
WIDE = dict(hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1)


def gguf(name: str, matrix_type: str, file_type: str, **fields) -> GgufCase:
    """A GGUF case; config arguments over `SMALL` go in `config`."""
    config = SMALL | fields.pop("config", {})
    tokenizer = byte_level_with_start if fields.get("add_bos") else byte_level
    return GgufCase(
        name=f"llama-gguf-{name}",
        model="LlamaForCausalLM",
        config=config,
        matrix_type=matrix_type,
        file_type=file_type,
        tokenizer=tokenizer,
        lengths=(7, 4),
        **fields,
    )


def rope(name: str, parameters: Config) -> GgufCase:
    """A GGUF case about its rotary scaling."""
    return gguf(f"rope-{name}", "Q8_0", "MOSTLY_Q8_0", config=dict(rope_parameters=parameters))


CASES = [
    gguf("f32", "F32", "ALL_F32", config=dict(num_hidden_layers=1), samples=generated_text, padding="left"),
    gguf("f16", "F16", "MOSTLY_F16", config=dict(tie_word_embeddings=True)),
    gguf(
        "bf16",
        "BF16",
        "MOSTLY_BF16",
        config=dict(head_dim=48, num_attention_heads=2),
        add_bos=True,
        samples=generated_text,
    ),
    gguf(
        "mixed",
        "Q4_1",
        "MOSTLY_Q4_1",
        config=MEDIUM,
        types=dict(token_embd="Q8_0", output="Q8_0", attn_q="Q4_0", attn_v="F16", ffn_up="F32", ffn_down="Q4_0"),
    ),
    gguf(
        "five-bits",
        "Q5_0",
        "MOSTLY_Q5_0",
        config=MEDIUM,
        types=dict(token_embd="Q8_0", output="Q8_0", attn_k="Q5_1", attn_output="Q5_1", ffn_up="Q5_1", ffn_down="Q8_0"),
    ),
    gguf(
        "k-quants",
        "Q4_K",
        "MOSTLY_Q4_K_M",
        config=WIDE,
        types=dict(token_embd="Q4_K", output="Q6_K", attn_v="Q6_K", ffn_up="Q5_K", ffn_down="Q6_K"),
    ),
    gguf(
        "small-k-quants",
        "Q2_K",
        "MOSTLY_Q3_K_M",
        config=WIDE,
        types=dict(
            token_embd="Q3_K", output="Q3_K", attn_v="IQ4_NL", attn_output="Q3_K", ffn_up="IQ4_XS", ffn_down="Q3_K"
        ),
    ),
    rope("linear", dict(rope_type="linear", rope_theta=100.0, factor=3.0)),
    rope("yarn", dict(rope_type="yarn", rope_theta=50.0, factor=4.0, original_max_position_embeddings=32)),
    rope(
        "llama3",
        dict(
            rope_type="llama3",
            rope_theta=500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
]
