//! Mixtures of experts at full size, without weights: a stack of experts is one weight, however many there are.

use std::collections::BTreeMap;

use castiron_backends::artifact::Compiled;
use castiron_backends::lower::lower;
use castiron_backends::weights::WeightFormat;
use castiron_frontends::models::{self, Sources};
use castiron_ir::{DType, Storage, StoredTensor, TensorSource, storage};
use castiron_passes::Stage;
use castiron_runtime::program::{Program, WeightForm};
use serde_json::{Value, json};

/// Tensors without bytes.
struct Shapes(BTreeMap<String, Vec<usize>>);

impl TensorSource for Shapes {
    fn layout(&self, name: &str) -> Option<(Storage, &[usize])> {
        Some((Storage::Dense(DType::BF16), self.0.get(name)?))
    }
    fn tensor(&self, _: &str) -> Option<StoredTensor<'_>> {
        None
    }
}

/// Number of ops of the graph, and the kernel program.
fn compiled(config: &Value, shapes: BTreeMap<String, Vec<usize>>) -> (usize, Program) {
    let config = config.as_object().unwrap();
    let sources = Sources {
        config,
        generation: None,
        pooling: None,
        max_input: None,
        shapes: shapes.clone(),
        same_values: &|_, _| false,
    };
    let mut module = models::build(sources).unwrap().module;
    let source = Shapes(shapes);
    storage::annotate(&mut module, &source);
    let ops = castiron::compiler::op_count(&module);
    let (kernels, _) = castiron_passes::run(&module, Stage::Kernels, &castiron_passes::Options::default()).unwrap();
    let compiled = Compiled::new(lower(&kernels).unwrap(), &source, WeightFormat::Keep).unwrap();
    (ops, compiled.program)
}

/// How many weights have so many instances of so many matrices.
fn stacks(program: &Program, instances: u32, count: usize) -> usize {
    let is_such = |form: &WeightForm| matches!(form, WeightForm::Stack { count: found, .. } if *found == count);
    program.weights.iter().filter(|w| w.instances == instances && is_such(&w.form)).count()
}

#[test]
fn deepseek_v3() {
    let config = json!({
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 129280,
        "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
        "num_attention_heads": 128, "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256,
        "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
        "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
        "first_k_dense_replace": 3, "norm_topk_prob": true, "rope_interleave": true, "head_dim": 64,
        "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-6,
    });
    let mut shapes = outer(129280, 7168);
    for layer in 0..61 {
        let mut add = |name: &str, shape: &[usize]| add(&mut shapes, layer, name, shape);
        norms(&mut add, 7168);
        add("self_attn.q_a_proj.weight", &[1536, 7168]);
        add("self_attn.q_a_layernorm.weight", &[1536]);
        add("self_attn.q_b_proj.weight", &[128 * 192, 1536]);
        add("self_attn.kv_a_proj_with_mqa.weight", &[576, 7168]);
        add("self_attn.kv_a_layernorm.weight", &[512]);
        add("self_attn.kv_b_proj.weight", &[128 * 256, 512]);
        add("self_attn.o_proj.weight", &[7168, 128 * 128]);
        if layer < 3 {
            perceptron(&mut add, "mlp", [18432, 7168]);
            continue;
        }
        add("mlp.gate.weight", &[256, 7168]);
        add("mlp.gate.e_score_correction_bias", &[256]);
        perceptron(&mut add, "mlp.shared_experts", [2048, 7168]);
        (0..256).for_each(|e| perceptron(&mut add, &format!("mlp.experts.{e}"), [2048, 7168]));
    }
    let (ops, program) = compiled(&config, shapes);
    assert!(ops < 1000, "{ops} ops");
    // Both entries share them: gate and up of an expert are one matrix.
    assert_eq!(stacks(&program, 58, 256), 2);
}

#[test]
fn gpt_oss_120b() {
    let config = json!({
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880,
        "intermediate_size": 2880, "num_hidden_layers": 36, "num_local_experts": 128, "num_experts_per_tok": 4,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "sliding_window": 128,
        "attention_bias": true, "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "truncate": false, "original_max_position_embeddings": 4096,
        },
    });
    let mut shapes = outer(201088, 2880);
    for layer in 0..36 {
        let mut add = |name: &str, shape: &[usize]| add(&mut shapes, layer, name, shape);
        norms(&mut add, 2880);
        for (name, width) in [("q", 4096), ("k", 512), ("v", 512)] {
            add(&format!("self_attn.{name}_proj.weight"), &[width, 2880]);
            add(&format!("self_attn.{name}_proj.bias"), &[width]);
        }
        add("self_attn.o_proj.weight", &[2880, 4096]);
        add("self_attn.o_proj.bias", &[2880]);
        add("self_attn.sinks", &[64]);
        add("mlp.router.weight", &[128, 2880]);
        add("mlp.router.bias", &[128]);
        add("mlp.experts.gate_up_proj", &[128, 2880, 5760]);
        add("mlp.experts.gate_up_proj_bias", &[128, 5760]);
        add("mlp.experts.down_proj", &[128, 2880, 2880]);
        add("mlp.experts.down_proj_bias", &[128, 2880]);
    }
    let (ops, program) = compiled(&config, shapes);
    assert!(ops < 1000, "{ops} ops");
    assert_eq!(stacks(&program, 18, 128), 4, "two layers are repeated");
}

fn outer(vocab: usize, width: usize) -> BTreeMap<String, Vec<usize>> {
    let tables = ["model.embed_tokens.weight", "lm_head.weight"].map(|name| (name.to_owned(), vec![vocab, width]));
    tables.into_iter().chain([("model.norm.weight".to_owned(), vec![width])]).collect()
}

fn add(shapes: &mut BTreeMap<String, Vec<usize>>, layer: usize, name: &str, shape: &[usize]) {
    shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec());
}

fn norms(add: &mut dyn FnMut(&str, &[usize]), width: usize) {
    ["input_layernorm", "post_attention_layernorm"].iter().for_each(|name| add(&format!("{name}.weight"), &[width]));
}

fn perceptron(add: &mut dyn FnMut(&str, &[usize]), name: &str, [inner, width]: [usize; 2]) {
    ["gate_proj", "up_proj"].iter().for_each(|layer| add(&format!("{name}.{layer}.weight"), &[inner, width]));
    add(&format!("{name}.down_proj.weight"), &[width, inner]);
}
