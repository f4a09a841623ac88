"""Decoders as GGUF: one table of llama.cpp's for each, with what its converter changes."""

from gguf import GGMLQuantizationType

from cases.descendants import LONGROPE, WINDOW
from cases.llama import SMALL
from cases.mixtures import LATENT, YARN
from cases.mixtures import SMALL as MIXTURE
from cases.state_spaces import SMALL as STATE_SPACE
from gguf import ExpertGatingFuncType
from gguf_family import (
    GgufFamilyCase,
    joint_rows,
    longrope_factors,
    norms_plus_one,
    rotary_pairs,
    separate_experts,
    separate_latent,
    stacked_norms,
    state_space,
    to_mxfp4,
    transposed,
    vector_gate,
)

ENDS = dict(vocab_size=67, bos_token_id=None, eos_token_id=None)
GPT2 = ENDS | dict(n_embd=36, n_layer=2, n_head=3, n_positions=48)
FALCON_GROUPED = ENDS | dict(
    hidden_size=36, num_attention_heads=6, num_kv_heads=2, num_hidden_layers=2, new_decoder_architecture=True
)
NEOX = ENDS | dict(
    hidden_size=48, intermediate_size=36, num_attention_heads=3, num_hidden_layers=2, max_position_embeddings=64
)
WITHOUT_HEAD_DIM = {key: value for key, value in SMALL.items() if key != "head_dim"} | dict(hidden_size=48)


def family(name: str, architecture: str, model: str, config: dict, base: dict = WITHOUT_HEAD_DIM, **fields):
    """A case of one architecture."""
    return GgufFamilyCase(
        name=f"gguf-{name}", architecture=architecture, model=model, config=base | config, lengths=(7, 4), **fields
    )


def state_space_keys(writer, config):
    """Sizes of Mamba's state."""
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_inner_size(config.intermediate_size)
    writer.add_ssm_state_size(config.state_size)
    writer.add_ssm_time_step_rank(config.time_step_rank)
    writer.add_ssm_dt_b_c_rms(False)


def window(writer, config):
    """The width of windows."""
    writer.add_sliding_window(config.sliding_window)


def gemma2_keys(writer, config):
    """Windows and caps."""
    window(writer, config)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)


def parallel_keys(writer, config):
    """Whether attention and MLP are parallel."""
    writer.add_parallel_residual(config.use_parallel_residual)


def cohere_keys(writer, config):
    """The scale of logits."""
    writer.add_logit_scale(config.logit_scale)


def cohere2_keys(writer, config):
    """The scale of logits, and windows."""
    cohere_keys(writer, config)
    window(writer, config)


def falcon_keys(writer, config):
    """What the order of rows is called."""
    writer.add_tensor_data_layout("jploski")


def bloom_keys(writer, config):
    """Heads of keys, as many as of queries."""
    writer.add_head_count_kv(config.num_attention_heads)


def gptj_keys(writer, config):
    """Channels that turn."""
    writer.add_rope_dimension_count(config.rotary_dim)


def granite_keys(writer, config):
    """The four scales."""
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def qwen2_mixture_keys(writer, config):
    """The width of the expert for all tokens."""
    writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def old_latent_keys(writer, config):
    """Latent attention as files had it whose keys and values are made together."""
    writer.add_head_count_kv(config.num_attention_heads)
    writer.add_key_length(config.qk_nope_head_dim + config.qk_rope_head_dim)
    writer.add_value_length(config.v_head_dim)
    more_latent_keys(writer, config)


def latent_keys(writer, config):
    """Latent attention with the widths of what is cached, and those of heads."""
    writer.add_head_count_kv(1)
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_nope_head_dim + config.qk_rope_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    more_latent_keys(writer, config)


def more_latent_keys(writer, config):
    """Ranks, and what is said of experts."""
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    if "mscale_all_dim" in config.rope_parameters:
        writer.add_rope_scaling_yarn_log_mul(0.1 * config.rope_parameters["mscale_all_dim"])


def deepseek3_keys(writer, config):
    """Latent attention, and experts chosen by the logistic function."""
    latent_keys(writer, config)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)


def gpt_oss_keys(writer, config):
    """Windows, and the width of an expert."""
    window(writer, config)
    writer.add_expert_feed_forward_length(config.intermediate_size)


def separate_small_latent(tensors):
    """The small DeepSeek's tensors."""
    return separate_latent(tensors, LATENT["qk_nope_head_dim"], LATENT["v_head_dim"])


def separate_alternating(tensors):
    """GPT-OSS's tensors."""
    return separate_experts(tensors, alternating=True)


LATENT_MIXTURE = {key: value for key, value in (MIXTURE | LATENT).items() if key != "head_dim"}
WIDE_MIXTURE = {key: value for key, value in MIXTURE.items() if key != "head_dim"} | dict(hidden_size=36)

MIXTURES = [
    family(
        "qwen3moe",
        "qwen3moe",
        "Qwen3MoeForCausalLM",
        dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=14, norm_topk_prob=True),
        MIXTURE,
        merge=separate_experts,
    ),
    family(
        "qwen2moe",
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        dict(
            num_experts=5, num_experts_per_tok=3, moe_intermediate_size=14, shared_expert_intermediate_size=22
        ),
        WIDE_MIXTURE,
        change=vector_gate,
        add_keys=qwen2_mixture_keys,
        merge=separate_experts,
    ),
    family(
        "mixtral",
        "llama",
        "MixtralForCausalLM",
        dict(num_local_experts=5, num_experts_per_tok=2),
        MIXTURE,
        change=rotary_pairs,
        merge=separate_experts,
        padding="left",
    ),
    family(
        "granitemoe",
        "granitemoe",
        "GraniteMoeForCausalLM",
        dict(
            num_local_experts=5,
            num_experts_per_tok=2,
            embedding_multiplier=1.3,
            logits_scaling=0.8,
            residual_multiplier=0.9,
            attention_multiplier=0.45,
        ),
        WIDE_MIXTURE,
        change=rotary_pairs,
        add_keys=granite_keys,
        merge=separate_experts,
    ),
    family(
        "deepseek2",
        "deepseek2",
        "DeepseekV2ForCausalLM",
        dict(topk_method="group_limited_greedy", n_group=3, topk_group=2, routed_scaling_factor=1.7),
        LATENT_MIXTURE,
        add_keys=latent_keys,
        merge=separate_small_latent,
    ),
    family(
        "deepseek2-lite",
        "deepseek2",
        "DeepseekV2ForCausalLM",
        dict(
            num_hidden_layers=3,
            q_lora_rank=None,
            topk_method="greedy",
            rope_parameters=YARN | dict(mscale=0.707, mscale_all_dim=0.707),
        ),
        LATENT_MIXTURE,
        add_keys=old_latent_keys,
        merge=separate_experts,
        padding="left",
    ),
    family(
        "deepseek3",
        "deepseek2",
        "DeepseekV3ForCausalLM",
        dict(
            n_routed_experts=8,
            n_shared_experts=1,
            n_group=4,
            topk_group=2,
            rope_parameters=YARN | dict(mscale=1.0, mscale_all_dim=1.0),
        ),
        LATENT_MIXTURE,
        add_keys=deepseek3_keys,
        merge=separate_small_latent,
    ),
    family(
        "gpt-oss",
        "gpt-oss",
        "GptOssForCausalLM",
        dict(
            hidden_size=32,
            intermediate_size=32,
            num_local_experts=5,
            num_experts_per_tok=2,
            sliding_window=5,
            rope_parameters=YARN | dict(truncate=False),
        ),
        MIXTURE,
        add_keys=gpt_oss_keys,
        merge=separate_alternating,
        prepare=to_mxfp4,
        types=dict(ffn_gate_exps="MXFP4", ffn_up_exps="MXFP4", ffn_down_exps="MXFP4"),
    ),
]

CASES = MIXTURES + [
    family("llama-biases", "llama", "LlamaForCausalLM", dict(attention_bias=True, mlp_bias=True), change=rotary_pairs),
    family("llama-split", "llama", "LlamaForCausalLM", dict(), change=rotary_pairs, parts=3),
    family("qwen2", "qwen2", "Qwen2ForCausalLM", dict()),
    family("qwen2-tied", "qwen2", "Qwen2ForCausalLM", dict(tie_word_embeddings=True), padding="left"),
    family("qwen3", "qwen3", "Qwen3ForCausalLM", dict(head_dim=6)),
    family("gemma", "gemma", "GemmaForCausalLM", dict(head_dim=16, hidden_size=30), change=norms_plus_one),
    family(
        "gemma2",
        "gemma2",
        "Gemma2ForCausalLM",
        dict(hidden_size=30, head_dim=10, query_pre_attn_scalar=10, sliding_window=WINDOW, num_hidden_layers=3),
        change=norms_plus_one,
        add_keys=gemma2_keys,
    ),
    family(
        "gemma3",
        "gemma3",
        "Gemma3ForCausalLM",
        dict(hidden_size=30, head_dim=10, query_pre_attn_scalar=10, sliding_window=WINDOW, num_hidden_layers=7),
        change=norms_plus_one,
        add_keys=window,
    ),
    family("phi2", "phi2", "PhiForCausalLM", dict(num_key_value_heads=6)),
    family(
        "phi3",
        "phi3",
        "Phi3ForCausalLM",
        dict(pad_token_id=None, num_attention_heads=3, num_key_value_heads=1, sliding_window=WINDOW),
        add_keys=window,
    ),
    family(
        "phi3-longrope",
        "phi3",
        "Phi3ForCausalLM",
        dict(
            pad_token_id=None,
            num_attention_heads=3,
            num_key_value_heads=1,
            rope_parameters=LONGROPE,
            max_position_embeddings=48,
            original_max_position_embeddings=12,
        ),
        extra=longrope_factors,
    ),
    family(
        "stablelm",
        "stablelm",
        "StableLmForCausalLM",
        dict(use_qkv_bias=True, qk_layernorm=True),
        add_keys=parallel_keys,
        merge=stacked_norms,
    ),
    family("starcoder2", "starcoder2", "Starcoder2ForCausalLM", dict(tie_word_embeddings=False)),
    family("olmo2", "olmo2", "Olmo2ForCausalLM", dict()),
    family("cohere", "command-r", "CohereForCausalLM", dict(logit_scale=1.3, use_qk_norm=True, tie_word_embeddings=False), add_keys=cohere_keys),
    family(
        "cohere2",
        "cohere2",
        "Cohere2ForCausalLM",
        dict(logit_scale=1.3, sliding_window=WINDOW, num_hidden_layers=5),
        add_keys=cohere2_keys,
    ),
    family(
        "granite",
        "granite",
        "GraniteForCausalLM",
        dict(attention_multiplier=0.3, embedding_multiplier=1.5, residual_multiplier=0.7, logits_scaling=0.8),
        change=rotary_pairs,
        add_keys=granite_keys,
    ),
    family(
        "smollm3",
        "smollm3",
        "SmolLM3ForCausalLM",
        dict(pad_token_id=None, num_hidden_layers=5),
        change=rotary_pairs,
    ),
    family(
        "gpt2",
        "gpt2",
        "GPT2LMHeadModel",
        GPT2,
        base={},
        change=transposed,
    ),
    family(
        "falcon",
        "falcon",
        "FalconForCausalLM",
        ENDS | dict(hidden_size=36, num_attention_heads=3, num_hidden_layers=2, num_kv_heads=1),
        base={},
        change=joint_rows,
        add_keys=falcon_keys,
    ),
    family(
        "falcon-grouped",
        "falcon",
        "FalconForCausalLM",
        FALCON_GROUPED | dict(ffn_hidden_size=52, tie_word_embeddings=False),
        base={},
        change=joint_rows,
        add_keys=falcon_keys,
    ),
    family(
        "falcon-one-norm",
        "falcon",
        "FalconForCausalLM",
        FALCON_GROUPED | dict(num_ln_in_parallel_attn=1, bias=True, rope_theta=500.0),
        base={},
        change=joint_rows,
        add_keys=falcon_keys,
    ),
    family(
        "falcon-q8",
        "falcon",
        "FalconForCausalLM",
        FALCON_GROUPED | dict(hidden_size=64, num_attention_heads=4, ffn_hidden_size=32, tie_word_embeddings=False),
        base={},
        change=joint_rows,
        add_keys=falcon_keys,
        matrix_type=GGMLQuantizationType.Q8_0,
    ),
    family("gptneox", "gptneox", "GPTNeoXForCausalLM", NEOX, base={}, change=joint_rows, add_keys=parallel_keys),
    family(
        "gptneox-sequential",
        "gptneox",
        "GPTNeoXForCausalLM",
        NEOX | dict(use_parallel_residual=False, attention_bias=False, rotary_pct=1.0),
        base={},
        change=joint_rows,
        add_keys=parallel_keys,
    ),
    family(
        "bloom",
        "bloom",
        "BloomForCausalLM",
        ENDS | dict(hidden_size=36, n_head=6, n_layer=2, tie_word_embeddings=False),
        base={},
        change=joint_rows,
        add_keys=bloom_keys,
    ),
    family("starcoder", "starcoder", "GPTBigCodeForCausalLM", GPT2, base={}),
    family("gptj", "gptj", "GPTJForCausalLM", GPT2 | dict(rotary_dim=8), base={}, add_keys=gptj_keys),
    GgufFamilyCase(
        name="gguf-mamba",
        architecture="mamba",
        model="MambaForCausalLM",
        config=STATE_SPACE,
        lengths=(7, 4),
        add_keys=state_space_keys,
        change=state_space,
    ),
]
