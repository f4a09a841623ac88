//! What a config and its tensors must say, and the words of the errors when they do not.

use std::collections::BTreeMap;

use castiron_ir::verify::verify;
use castiron_ir::{Dim, Task, Type};
use serde_json::{Map, Value, json};

use super::{Model, ModelError, Sources, build};
use crate::blocks::{Pooling, TensorError};

type Shapes = BTreeMap<String, Vec<usize>>;

fn try_build(config: &Value, shapes: &Shapes, pooling: Option<Pooling>) -> Result<Model, ModelError> {
    let config = config.as_object().expect("a test gives an object");
    let (shapes, same_values) = (Some(shapes.clone()), &|_: &str, _: &str| false);
    build(Sources { config, generation: None, pooling, max_input: None, shapes, same_values })
}

fn error(config: &Value, shapes: &Shapes) -> String {
    try_build(config, shapes, None).expect_err("the test breaks the model").to_string()
}

fn with(config: &Value, changes: Value) -> Value {
    let changes: Map<String, Value> = changes.as_object().expect("a test gives an object").clone();
    let mut config = config.clone();
    config.as_object_mut().expect("a test gives an object").extend(changes);
    config
}

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 11, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    })
}

fn llama_shapes() -> Shapes {
    let layer = |i: usize| {
        let part = |name: &str, shape: &[usize]| (format!("model.layers.{i}.{name}.weight"), shape.to_vec());
        [
            part("input_layernorm", &[8]),
            part("self_attn.q_proj", &[8, 8]),
            part("self_attn.k_proj", &[4, 8]),
            part("self_attn.v_proj", &[4, 8]),
            part("self_attn.o_proj", &[8, 8]),
            part("post_attention_layernorm", &[8]),
            part("mlp.gate_proj", &[12, 8]),
            part("mlp.up_proj", &[12, 8]),
            part("mlp.down_proj", &[8, 12]),
        ]
    };
    let top = [("model.embed_tokens", vec![11, 8]), ("model.norm", vec![8]), ("lm_head", vec![11, 8])];
    let top = top.map(|(name, shape)| (format!("{name}.weight"), shape));
    (0..2).flat_map(layer).chain(top).collect()
}

fn without(mut shapes: Shapes, name: &str) -> Shapes {
    shapes.remove(name).expect("a test removes what is there");
    shapes
}

#[test]
fn a_decoder_has_forward_and_step() {
    let model = try_build(&llama(), &llama_shapes(), None).expect("a valid model");
    verify(&model.module).expect("a valid module");
    assert_eq!(model.description.task, Task::TextGeneration);
    let step = model.module.entry("step").expect("a decoder steps");
    assert_eq!(step.body.argument_names, ["input_ids", "past", "last"]);
    assert_eq!(step.outputs, ["logits", "best"]);
    let types = [Type::f32([Dim::symbol("b"), 11.into()]), Type::i32(["b"])];
    assert_eq!(step.body.types_of(&step.body.results), types);
    let states: Vec<_> = step.states.iter().map(|s| (s.name.as_str(), s.instances, s.ty.to_string())).collect();
    let ty = "f32[b,1,c,4]".to_owned();
    assert_eq!(states, [("layers.{i}.key", Some(2), ty.clone()), ("layers.{i}.value", Some(2), ty)]);
}

#[test]
fn a_config_without_architectures_is_the_base_model() {
    let config = with(&llama(), json!({"architectures": null}));
    let model = try_build(&config, &llama_shapes(), None).expect("a base model leaves the head aside");
    assert_eq!(model.description.architecture, "LlamaModel");
    assert!(model.module.entry("step").is_none());
}

#[test]
fn an_unknown_architecture_is_named_with_the_known_ones() {
    let message = error(&with(&llama(), json!({"architectures": ["NobodyForCausalLM"]})), &Shapes::new());
    assert!(message.starts_with("architecture `NobodyForCausalLM` is not known; the known families are "));
    assert!(message.contains(", bert, ") && message.contains(", llama"), "{message}");
    let message = error(&json!({"model_type": "nobody"}), &Shapes::new());
    assert!(message.starts_with("architecture `nobody` is not known"), "{message}");
}

#[test]
fn unread_keys_are_named() {
    let message = error(&with(&llama(), json!({"sliding_window": 4, "layer_types": []})), &llama_shapes());
    assert_eq!(message, r#"config: ["sliding_window", "layer_types"] are not implemented for this architecture"#);
    let harmless =
        json!({"sliding_window": null, "pruned_heads": {}, "is_llama_config": true, "rope_interleaved": false});
    try_build(&with(&llama(), harmless), &llama_shapes(), None).expect("nothing that changes the numbers");
}

#[test]
fn switches_without_meaning_are_named_with_what_is_known() {
    let message = |changes| error(&with(&llama(), changes), &llama_shapes());
    let rope = |parameters: Value| message(json!({"rope_parameters": parameters}));
    let kinds = "expected default, linear, dynamic, llama3, yarn or longrope";
    assert_eq!(
        rope(json!({"rope_type": "spiral"})),
        format!(r#"config: `rope_parameters.rope_type` is "spiral", {kinds}"#)
    );
    let older = message(json!({"rope_scaling": {"type": "spiral"}}));
    assert_eq!(older, format!(r#"config: `rope_scaling.type` is "spiral", {kinds}"#));
    assert_eq!(rope(json!({"rope_type": "linear"})), "config: `rope_parameters.factor` is missing");
    let unread = rope(json!({"rope_type": "default", "sections": [1]}));
    assert_eq!(unread, r#"config: ["rope_parameters.sections"] are not implemented for this architecture"#);
    let long = json!({"rope_type": "longrope", "short_factor": [1, 1], "long_factor": [1, 2, 3]});
    assert!(rope(long).starts_with("config: `rope_parameters.long_factor` is [1,2,3], expected 2 positive numbers"));
    assert!(message(json!({"hidden_act": "xielu"})).starts_with("config: `hidden_act` is \"xielu\", expected gelu,"));
    assert!(message(json!({"head_dim": 3})).starts_with("config: `head_dim` is 3, expected an even width"));
    assert!(message(json!({"head_dim": 1 << 17})).contains("up to 65536, not 131072"));
    assert!(message(json!({"num_key_value_heads": 4})).contains("expected a divisor of num_attention_heads"));
    assert_eq!(message(json!({"vocab_size": null})), "config: `vocab_size` is missing");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let mut shapes = llama_shapes();
    shapes.insert("model.layers.1.mlp.up_proj.weight".into(), vec![4, 9]);
    let expected = "the config asks for [12, 8] (intermediate_size × hidden_size)";
    assert_eq!(
        error(&llama(), &shapes),
        format!(r#"tensor "model.layers.1.mlp.up_proj.weight" has shape [4, 9], {expected}"#)
    );
    let missing = without(without(llama_shapes(), "model.norm.weight"), "model.layers.1.input_layernorm.weight");
    let message = error(&llama(), &missing);
    assert!(message.starts_with("2 tensors are missing: "), "{message}");
    assert!(
        message.contains(r#""model.norm.weight""#) && message.contains(r#""model.layers.1.input_layernorm.weight""#)
    );
    let mut surplus = llama_shapes();
    surplus.insert("model.layers.0.self_attn.q_norm.weight".into(), vec![4]);
    let name = r#""model.layers.0.self_attn.q_norm.weight""#;
    assert_eq!(error(&llama(), &surplus), format!("1 tensors are not used by this architecture: {name}"));
}

#[test]
fn an_untied_head_has_to_be_stored() {
    let shapes = without(llama_shapes(), "lm_head.weight");
    assert_eq!(error(&llama(), &shapes), r#"1 tensors are missing: "lm_head.weight""#);
    try_build(&with(&llama(), json!({"tie_word_embeddings": true})), &shapes, None).expect("a tied head");
}

#[test]
fn sizes_beyond_all_bounds_are_errors() {
    let huge = (1u64 << 31) - 2;
    let keys =
        ["vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "head_dim", "num_hidden_layers"];
    for key in keys {
        error(&with(&llama(), json!({key: huge})), &llama_shapes());
    }
    let all: Map<String, Value> = keys[..5].iter().map(|key| (key.to_string(), huge.into())).collect();
    error(&with(&with(&llama(), all.into()), json!({"num_key_value_heads": huge})), &llama_shapes());
}

#[test]
fn a_tied_mask_head_takes_the_bias_that_is_stored() {
    let bert = json!({
        "architectures": ["BertForMaskedLM"], "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 5,
    });
    let list =
        |shapes: &Shapes, tied: bool| match try_build(&with(&bert, json!({"tie_word_embeddings": tied})), shapes, None)
        {
            Err(ModelError::Tensors(TensorError::Missing(names))) => names,
            other => panic!("expected missing tensors, not {other:?}"),
        };
    let bias = |names: &[String]| {
        names.iter().filter(|n| n.starts_with("cls.") && n.ends_with("s.bias")).cloned().collect::<Vec<_>>()
    };
    let stored = |name: &str| Shapes::from([(name.to_owned(), vec![11])]);
    assert_eq!(bias(&list(&Shapes::new(), true)), ["cls.predictions.bias"]);
    assert!(bias(&list(&stored("cls.predictions.bias"), true)).is_empty());
    assert!(!list(&stored("cls.predictions.decoder.bias"), true).iter().any(|n| n.ends_with("predictions.bias")));
    assert!(list(&stored("cls.predictions.bias"), false).contains(&"cls.predictions.decoder.bias".to_owned()));
}

/// The message of an encoder's config, whose tensors do not matter.
fn encoder_error(architecture: &str, changes: Value) -> String {
    let all = json!({
        "architectures": [architecture], "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 20, "embedding_size": 4,
    });
    error(&with(&all, changes), &Shapes::new())
}

#[test]
fn switches_of_encoders_are_named() {
    let bert = |changes| encoder_error("BertModel", changes);
    assert_eq!(bert(json!({"is_decoder": true})), "config: `is_decoder` is true, expected false");
    let relative = bert(json!({"position_embedding_type": "relative_key"}));
    assert_eq!(relative, r#"config: `position_embedding_type` is "relative_key", expected absolute"#);
    let roberta = encoder_error("RobertaModel", json!({"pad_token_id": 30}));
    assert!(roberta.starts_with("config: `max_position_embeddings` is 20, expected more than 31"), "{roberta}");
    let albert = |changes| encoder_error("AlbertModel", changes);
    assert!(albert(json!({"num_hidden_groups": 3})).contains("expected at most num_hidden_layers"));
    assert!(albert(json!({"inner_group_num": 9999})).contains("`inner_group_num` is 9999, expected at most"));
    let choice = encoder_error("ElectraForMultipleChoice", json!({"summary_type": "mean"}));
    assert_eq!(choice, r#"config: `summary_type` is "mean", expected first"#);
    let mpnet = encoder_error("MPNetModel", json!({"relative_attention_num_buckets": 16}));
    assert!(mpnet.contains("`relative_attention_num_buckets` is 16, expected at least 32"), "{mpnet}");
}

#[test]
fn switches_of_disentangled_attention_are_named() {
    let plain = json!({"relative_attention": true, "embedding_size": 8});
    let first = |changes| encoder_error("DebertaModel", with(&plain, changes));
    assert_eq!(first(json!({"talking_head": true})), "config: `talking_head` is true, expected false");
    assert!(first(json!({"pos_att_type": "c2p|p2p"})).contains(r#"`pos_att_type` is "c2p|p2p", expected c2p, p2c"#));
    assert!(first(json!({"max_relative_positions": 1 << 20})).contains("expected at most 65536"));
    assert!(first(json!({"embedding_size": 4})).contains("`embedding_size` is 4, expected the same as hidden_size"));
    let second = |changes| encoder_error("DebertaV2Model", with(&plain, changes));
    assert!(second(json!({"position_buckets": 64})).starts_with("config: `position_buckets` is 64, expected"));
    assert!(second(json!({"norm_rel_ebd": "batch_norm"})).contains("expected none or layer_norm"));
    assert!(second(json!({"conv_kernel_size": 4})).contains("`conv_kernel_size` is 4, expected an odd number"));
}

#[test]
fn switches_of_rotary_encoders_are_named() {
    let modern = |changes| encoder_error("ModernBertModel", with(&json!({"embedding_size": null}), changes));
    let kinds = modern(json!({"layer_types": ["full_attention"]}));
    assert!(kinds.contains("expected a list of 2 out of"), "{kinds}");
    let rope = json!({"rope_parameters": {"rope_theta": 10.0}});
    assert!(modern(rope).contains("expected an object for each type of layers"));
    let head = encoder_error("ModernBertForSequenceClassification", json!({"classifier_pooling": "max"}));
    assert_eq!(head, r#"config: `classifier_pooling` is "max", expected cls or mean"#);
    let nomic = |changes| {
        let published = json!({"n_embd": 8, "n_head": 2, "n_layer": 1, "embedding_size": null, "hidden_size": null});
        encoder_error("NomicBertModel", with(&published, changes))
    };
    assert_eq!(nomic(json!({"prenorm": true})), "config: `prenorm` is true, expected false");
    assert!(nomic(json!({"activation_function": "gelu"})).contains("expected glu, swiglu or geglu"));
}

#[test]
fn switches_of_linear_attention_that_are_not_implemented_are_named() {
    let message = |config: Value| {
        let config = config.as_object().expect("a test gives an object");
        let same_values = &|_: &str, _: &str| false;
        let sources = Sources { config, generation: None, pooling: None, max_input: None, shapes: None, same_values };
        build(sources).map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    };
    let retnet = json!({
        "architectures": ["RetNetForCausalLM"], "vocab_size": 11, "hidden_size": 16, "num_heads": 4,
        "num_hidden_layers": 2, "intermediate_size": null, "hidden_ratio": null, "use_short_conv": true,
    });
    assert_eq!(message(retnet.clone()), "");
    for (changes, named) in [
        (json!({"attn": {"layers": [1]}}), "attn"),
        (json!({"attnres_block_size": 2}), "attnres_block_size"),
        (json!({"num_kv_heads": 3}), "num_kv_heads"),
        (json!({"expand_k": 0.3}), "expand_k"),
        (json!({"hidden_act": "gelu"}), "hidden_act"),
        (json!({"feature_map": "spiral"}), "feature_map"),
    ] {
        let message = message(with(&retnet, changes));
        assert!(message.starts_with(&format!("config: `{named}` is ")), "{named}: {message}");
    }
    let rwkv = json!({
        "architectures": ["RWKV"], "model_type": "rwkv7", "vocab_size": 11, "n_embd": 16, "n_layer": 2, "dim_ffn": 20,
        "head_size": 8,
    });
    assert_eq!(message(rwkv.clone()), "");
    for (changes, named) in [
        (json!({"model_type": "rwkv3"}), "model_type"),
        (json!({"head_size": 3}), "head_size"),
        (json!({"dim_att": 8}), "dim_att"),
        (json!({"head_size_divisor": 4}), "head_size_divisor"),
    ] {
        let message = message(with(&rwkv, changes));
        assert!(message.starts_with(&format!("config: `{named}` is ")), "{named}: {message}");
    }
}

#[test]
fn switches_of_recurrent_models_are_named() {
    let all = json!({
        "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_heads": 2,
        "intermediate_size": 12, "moe_intermediate_size": 4, "num_experts": 2, "num_local_experts": 2,
    });
    let check = |architecture: &str, changes: Value, expected: &str| {
        let config = with(&with(&all, json!({"architectures": [architecture]})), changes);
        let message = error(&config, &Shapes::new());
        assert!(message.starts_with(&format!("config: {expected}")), "{message}");
    };
    let kinds = json!({"layer_types": ["conv", "mamba"]});
    check("Lfm2Model", kinds.clone(), r#"`layer_types` is ["conv","mamba"], expected a list of 2 out of"#);
    check("Lfm2Model", json!({"intermediate_size": 1}), "`intermediate_size` is 1, expected a width");
    check("Lfm2MoeModel", json!({}), "`layer_types` is missing");
    check("MiniMaxModel", kinds, r#"`layer_types` is ["conv","mamba"], expected a list of 2 out of"#);
    let gemma = |changes, expected| check("RecurrentGemmaModel", changes, expected);
    gemma(json!({"block_types": ["mamba"]}), r#"`block_types` is ["mamba"], expected a list out of"#);
    gemma(json!({"lru_width": 9}), "`lru_width` is 9, expected a multiple of num_attention_heads");
    gemma(json!({"embeddings_scale_by_sqrt_dim": false}), "`embeddings_scale_by_sqrt_dim` is false, expected true");
    let linear = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}});
    gemma(linear, "`rope_parameters` is");
    let xlstm = |changes, expected| check("xLSTMModel", changes, expected);
    xlstm(json!({"mode": "train_with_padding"}), r#"`mode` is "train_with_padding", expected inference or train"#);
    xlstm(json!({"inference_state_dtype": "bfloat16"}), r#"`inference_state_dtype` is "bfloat16", expected float32"#);
    xlstm(json!({"weight_mode": "joint"}), r#"`weight_mode` is "joint", expected single or fused"#);
    xlstm(json!({"embedding_dim": 4}), "`embedding_dim` is 4, expected hidden_size");
    xlstm(json!({"num_heads": 3}), "`qk_dim_factor` is missing, expected a share of hidden_size that 3 heads divide");
}

#[test]
fn switches_of_gated_delta_networks_are_named() {
    let all = json!({
        "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4,
        "intermediate_size": 12, "moe_intermediate_size": 4, "num_experts": 4, "num_experts_per_tok": 2,
        "shared_expert_intermediate_size": 4, "kv_lora_rank": 4, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2,
        "v_head_dim": 2,
    });
    let check = |architecture: &str, changes: Value, expected: &str| {
        let config = with(&with(&all, json!({"architectures": [architecture]})), changes);
        let message = error(&config, &Shapes::new());
        assert!(message.starts_with(&format!("config: {expected}")), "{message}");
    };
    let next = |changes, expected| check("Qwen3NextModel", changes, expected);
    next(json!({"attn_output_gate": false}), "`attn_output_gate` is false, expected true");
    next(json!({"use_sliding_window": true}), "`use_sliding_window` is true, expected false");
    next(json!({"linear_num_key_heads": 3}), "`linear_num_key_heads` is 3, expected a divisor of");
    next(json!({"linear_key_head_dim": 1 << 20}), "`linear_key_head_dim` is 1048576, expected a number from 1 to 4096");
    next(json!({"layer_types": ["full_attention"]}), r#"`layer_types` is ["full_attention"], expected a list of 2"#);
    next(json!({"head_dim": null}), "`head_dim` is missing");
    check(
        "OlmoHybridModel",
        json!({"linear_num_value_heads": 3}),
        "`linear_num_key_heads` is missing, expected a divisor",
    );
    let kimi = |changes, expected| check("KimiLinearModel", changes, expected);
    kimi(json!({"mla_use_nope": false}), "`mla_use_nope` is false, expected true");
    kimi(json!({"num_key_value_heads": 1}), "`num_key_value_heads` is 1, expected the number of attention heads");
    kimi(
        json!({"moe_router_activation_func": "softmax"}),
        "`moe_router_activation_func` is \"softmax\", expected sigmoid",
    );
    kimi(json!({"num_expert_group": 3}), "`num_expert_group` is 3, expected a divisor of 4 experts");
    let lists = json!({"linear_attn_config": {"full_attn_layers": [1], "kda_layers": [1]}});
    kimi(lists, "`linear_attn_config.kda_layers` is [1], expected those of 2 layers that full_attn_layers does not");
    kimi(json!({"linear_attn_config": {"gate": 1}}), "[\"linear_attn_config.gate\"] are not implemented");
}
