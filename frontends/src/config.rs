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

/// Keys that cannot change the numbers of a forward pass.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "directionality",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "gradient_checkpointing",
    "finetuning_task",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "max_position_embeddings",
    "model_type",
    "n_ctx",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "return_dict",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
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

    /// An activation by transformers' name.
    ///
    /// # Errors
    /// A name without a function.
    pub fn activation(&self, key: &str, default: &str) -> Result<UnaryOp, ConfigError> {
        let name = self.text(key)?.unwrap_or(default);
        Ok(match name {
            "gelu" => UnaryOp::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => UnaryOp::GeluTanh,
            "relu" => UnaryOp::Relu,
            "silu" | "swish" => UnaryOp::Silu,
            "tanh" => UnaryOp::Tanh,
            "sigmoid" => UnaryOp::Sigmoid,
            _ => {
                let known = "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish, tanh or sigmoid";
                return Err(self.invalid(key, known));
            }
        })
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Keys with a value that were not read and could matter. An empty object asks for nothing.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let read = self.read.borrow();
        let says_nothing = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        let unread = self
            .object
            .iter()
            .filter(|(key, value)| !says_nothing(value) && !read.contains(*key) && !HARMLESS.contains(&key.as_str()));
        let unread: Vec<String> = unread.map(|(key, _)| format!("{}{key}", self.prefix)).collect();
        if unread.is_empty() { Ok(()) } else { Err(ConfigError::Unread(unread)) }
    }
}
