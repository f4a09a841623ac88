//! Reader of `config.json` that knows which keys were read: a key that is read nowhere and could
//! change the numbers is an error, not a surprise.

use std::cell::RefCell;
use std::collections::BTreeSet;

use castiron_ir::op::UnaryOp;
use serde_json::{Map, Value};

use crate::blocks::Size;

/// A config that asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required key is absent.
    #[error("config: `{0}` is missing")]
    Missing(String),
    /// A value of another type or range.
    #[error("config: `{key}` is {found}, expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// Keys that no builder reads and that are not known to be harmless.
    #[error("config: {0:?} are not implemented for this architecture")]
    Unread(Vec<String>),
}

/// Whether a key cannot change the numbers of a forward pass: those above, and whatever is dropped in training.
fn is_harmless(key: &str) -> bool {
    HARMLESS.contains(&key) || key.contains("dropout") || key.contains("layerdrop") || key.ends_with("pdrop")
}

/// Widest head, since a builder makes lists of its channels.
const MOST_CHANNELS: usize = 1 << 16;

/// Extents of attention heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub heads: Size,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: Size,
    /// Width of a head.
    pub head_dim: Size,
}

/// Keys that cannot change the numbers of a forward pass.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "cross_attention_hidden_size",
    "dense_seq_output",
    "deterministic_flash_attn",
    "directionality",
    "down_scale_factor",
    "dtype",
    "eos_token_id",
    "ep_size",
    "finetuning_task",
    "fused_bias_fc",
    "gap_size",
    "gradient_checkpointing",
    "id2label",
    "init_std",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "max_position_embeddings",
    "model_type",
    "n_ctx",
    "net_structure_type",
    "num_labels",
    "num_memory_blocks",
    "num_nextn_predict_layers",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "reference_compile",
    "repad_logits_with_grad",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "seq_aux",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_weights_",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
    "use_xentropy",
];

/// A JSON object whose reads are recorded.
pub struct ConfigReader<'a> {
    /// Where the object stands in the config, as a prefix of its keys.
    prefix: String,
    object: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> ConfigReader<'a> {
    /// A reader that has read nothing yet.
    pub fn new(object: &'a Map<String, Value>) -> ConfigReader<'a> {
        ConfigReader { prefix: String::new(), object, read: RefCell::default() }
    }

    /// A reader of an object that stands at a key of the config.
    pub fn nested(key: &str, object: &'a Map<String, Value>) -> ConfigReader<'a> {
        ConfigReader { prefix: format!("{key}."), object, read: RefCell::default() }
    }

    /// The error of a value that has no meaning.
    pub fn invalid(&self, key: &str, expected: &str) -> ConfigError {
        let found = self.object.get(key).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::Value { key: format!("{}{key}", self.prefix), found, expected: expected.to_owned() }
    }

    /// The error of a key that has to be there.
    pub fn missing(&self, key: &str) -> ConfigError {
        ConfigError::Missing(format!("{}{key}", self.prefix))
    }

    /// A value; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.object.get(key).filter(|v| !v.is_null())
    }

    /// Whether a key says `null`, where that is not the same as saying nothing.
    pub fn is_null(&self, key: &str) -> bool {
        self.get(key);
        self.object.get(key).is_some_and(Value::is_null)
    }

    /// An extent that remembers its key, or a default.
    ///
    /// # Errors
    /// Another value than a positive integer.
    pub fn extent_or(&self, key: &str, default: usize) -> Result<Size, ConfigError> {
        Ok(Size::new(self.size(key)?.unwrap_or(default), key))
    }

    /// Notes keys that change nothing here, whatever their values.
    pub fn disregard(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|&key| key.to_owned()));
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.invalid(key, expected))
    }

    /// A positive integer below 2³¹.
    ///
    /// # Errors
    /// Another value.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let fits = |v: &Value| v.as_u64().filter(|n| (1..1 << 31).contains(n)).map(|n| n as usize);
        self.typed(key, "a positive integer", fits)
    }

    /// A positive integer that must be there.
    ///
    /// # Errors
    /// No value or another one.
    pub fn required_size(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// An extent that must be there, and remembers its key.
    ///
    /// # Errors
    /// No value or another one.
    pub fn extent(&self, key: &str) -> Result<Size, ConfigError> {
        Ok(Size::new(self.required_size(key)?, key))
    }

    /// A non-negative integer below 2³¹; nothing for a negative one, as old configs write "none".
    ///
    /// # Errors
    /// Another value.
    pub fn size_or_zero(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let fits = |v: &Value| v.as_i64().filter(|n| *n < 1 << 31);
        let value = self.typed(key, "an integer below 2^31", fits)?;
        Ok(value.and_then(|n| usize::try_from(n).ok()))
    }

    /// A number of layers, which a builder may count through.
    ///
    /// # Errors
    /// No value, or one that no model has.
    pub fn layers(&self, key: &str) -> Result<usize, ConfigError> {
        const MOST: usize = 10_000;
        let layers = self.required_size(key)?;
        if layers <= MOST { Ok(layers) } else { Err(self.invalid(key, "at most 10000 layers")) }
    }

    /// A finite number.
    ///
    /// # Errors
    /// Another value.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a finite number", |v| v.as_f64().filter(|x| x.is_finite()))
    }

    /// A positive number.
    ///
    /// # Errors
    /// Another value.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a positive number", |v| v.as_f64().filter(|x| x.is_finite() && *x > 0.0))
    }

    /// A truth value.
    ///
    /// # Errors
    /// Another value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A string.
    ///
    /// # Errors
    /// Another value.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A list of non-negative integers; none if there is none.
    ///
    /// # Errors
    /// Another value.
    pub fn numbers(&self, key: &str) -> Result<Vec<usize>, ConfigError> {
        let number = |v: &Value| usize::try_from(v.as_u64()?).ok();
        let numbers = |v: &Value| v.as_array()?.iter().map(number).collect();
        Ok(self.typed(key, "a list of non-negative integers", numbers)?.unwrap_or_default())
    }

    /// An activation by transformers' name.
    ///
    /// # Errors
    /// A name without a function.
    pub fn activation(&self, key: &str, default: &str) -> Result<UnaryOp, ConfigError> {
        self.activation_of(key, self.text(key)?.unwrap_or(default))
    }

    /// The activation of a name that a key says.
    ///
    /// # Errors
    /// A name without a function.
    pub fn activation_of(&self, key: &str, name: &str) -> Result<UnaryOp, ConfigError> {
        Ok(match name {
            "gelu" => UnaryOp::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => UnaryOp::GeluTanh,
            "relu" => UnaryOp::Relu,
            "relu2" => UnaryOp::Relu2,
            "silu" | "swish" => UnaryOp::Silu,
            "tanh" => UnaryOp::Tanh,
            "sigmoid" => UnaryOp::Sigmoid,
            _ => {
                let known = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, relu2, silu, swish, tanh or sigmoid";
                return Err(self.invalid(key, known));
            }
        })
    }

    /// Attention heads: `heads` of width `dim` or else of equal parts of `width`, in groups that share one of
    /// `kv_heads` key heads, or else each with its own.
    ///
    /// # Errors
    /// Heads without width, of odd groups or wider than any model's.
    pub fn heads(&self, heads: &str, kv_heads: &str, dim: &str, width: &Size) -> Result<Heads, ConfigError> {
        let (count, head_dim) = (self.extent(heads)?, self.size(dim)?);
        let kv_heads = (self.size(kv_heads)?.unwrap_or(count.value()), kv_heads);
        if !count.value().is_multiple_of(kv_heads.0) {
            return Err(self.invalid(kv_heads.1, &format!("a divisor of {heads}")));
        }
        let head_dim = head_dim.unwrap_or(width.value() / count.value());
        if head_dim == 0 || head_dim > MOST_CHANNELS || !head_dim.is_multiple_of(2) {
            let expected = format!("an even width of heads up to {MOST_CHANNELS}, not {head_dim}");
            return Err(self.invalid(dim, &expected));
        }
        Ok(Heads { heads: count, kv_heads: Size::new(kv_heads.0, kv_heads.1), head_dim: Size::new(head_dim, dim) })
    }

    /// Attention heads that are equal parts of `width`, which the key `whole` sets.
    ///
    /// # Errors
    /// A number of heads that does not divide the width.
    pub fn equal_heads(&self, heads: &str, whole: &str, width: &Size) -> Result<Heads, ConfigError> {
        let count = self.extent(heads)?;
        if !width.value().is_multiple_of(count.value()) {
            return Err(self.invalid(heads, &format!("a divisor of {whole}")));
        }
        let head_dim = Size::new(width.value() / count.value(), format!("{whole} / {heads}"));
        Ok(Heads { kv_heads: count.clone(), heads: count, head_dim })
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Keys with a value that were not read and could matter. An empty object asks for nothing.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let read = self.read.borrow();
        let says_nothing = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        let unread =
            self.object.iter().filter(|(key, value)| !says_nothing(value) && !read.contains(*key) && !is_harmless(key));
        let unread: Vec<String> = unread.map(|(key, _)| format!("{}{key}", self.prefix)).collect();
        if unread.is_empty() { Ok(()) } else { Err(ConfigError::Unread(unread)) }
    }
}
