//! What a table says of an architecture in GGUF files, and how it is followed.

use castiron_ir::{DType, Storage};
use serde_json::{Map, Value as Json};

use super::metadata::Keys;
use super::rope::{self, Rope};
use super::tensors::TensorInfo;
use super::{GgufError, Model, mixtures, tables};
use crate::checkpoint::stored::{Map as Function, Recipe, Rows, Stored};

/// An architecture: where its config and its tensors are found. The tables are in `tables`; one whose tensors have
/// other names from model to model has several, of which the first that knows the tensors of a file counts.
pub(super) struct Architecture {
    /// `general.architecture`
    pub(super) name: &'static str,
    /// `model_type` of transformers' config.
    pub(super) model_type: &'static str,
    /// Transformers' class.
    pub(super) class: &'static str,
    /// What the config holds.
    pub(super) fields: &'static [&'static [Field]],
    /// Tensors outside the layers: llama.cpp's stems and transformers'.
    pub(super) top: &'static [Name],
    /// Where transformers keeps its layers; llama.cpp has them under `blk`.
    pub(super) layers: &'static str,
    /// Tensors of a layer.
    pub(super) layer: &'static [&'static [Name]],
}

/// Where a part of the config comes from. First llama.cpp's key, without the architecture before it, then
/// transformers'.
pub(super) enum Field {
    /// A positive integer that must be there.
    Size(&'static str, &'static str),
    /// An integer that may be there; zero says nothing.
    OptionalSize(&'static str, &'static str),
    /// A number that must be there.
    Number(&'static str, &'static str),
    /// A number that may be there; zero says nothing.
    OptionalNumber(&'static str, &'static str),
    /// A truth value that may be there.
    Flag(&'static str, &'static str),
    /// A size that must be zero, if it is there: what it asks for is not implemented.
    Zero(&'static str),
    /// A size that must be this one, if it is there.
    Only(&'static str, usize),
    /// A size that says nothing new.
    Known(&'static str),
    /// Whether the file holds a tensor; here the key comes last.
    Present(&'static str, &'static str),
    /// A value that all models of the architecture have.
    Always(&'static str, Constant),
    /// `head_dim`
    Heads,
    /// No heads at all.
    NoHeads,
    /// The three widths of a head of latent attention, and a key head for each head.
    LatentHeads,
    /// Rotary positions, and the share of a head's channels that turn.
    Rope(Rope),
    /// Whether YaRN takes whole channels as its bounds, which files do not say.
    YarnTruncates(bool),
    /// YaRN's two coefficients of latent attention, which are equal.
    YarnCoefficients,
    /// Gemma's scale of scores, which llama.cpp knows by the number of layers: the width of a head, but in models
    /// of so many layers the width of the model divided by the number of heads.
    ScoreWidth(usize),
}

/// A value in a table.
pub(super) enum Constant {
    Text(&'static str),
    Flag(bool),
    Size(usize),
}

/// A stem in llama.cpp's words and in transformers', and what llama.cpp's converter did to the values.
pub(super) type Name = (&'static str, &'static str, Change);

/// What is undone to get transformers' values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The rows of each query head come in rotary pairs (0, d/2, 1, d/2 + 1, …).
    QueryPairs,
    /// The rows of each key head do.
    KeyPairs,
    /// One was added to the weights, which transformers keeps centred at zero.
    PlusOne,
    /// The last two axes were exchanged.
    Transposed,
    /// The rows of all queries come first, then those of the keys, then those of the values; in transformers the
    /// queries that share a key head come before its key and its value.
    Joint,
    /// The vectors of all heads were stacked; `{h}` in transformers' name is the head.
    Stacked,
    /// `.weight` or `.bias` was added to the name.
    Bare,
    /// A matrix of one row became a vector.
    Row,
    /// `-e^x`, under a name without `.weight`.
    NegativeExp,
    /// A name without `.weight`, and no more.
    Unsuffixed,
    /// The axis of extent 1 of a convolution of single channels was left out.
    Depthwise,
}

/// Numbers that both config and tensors go by.
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Width of a head's values; that of its queries and keys but for latent attention.
    pub(super) value_dim: usize,
    /// Channels of a head that turn.
    pub(super) rotary: usize,
}

/// Config and tensors of a file in transformers' words.
pub(super) fn model(keys: &Keys<'_>, infos: &[TensorInfo], files: &[&[u8]]) -> Result<Model, GgufError> {
    let found = keys.required_text("general.architecture")?;
    let tables = || tables::ALL.iter().filter(|architecture| architecture.name == found);
    let architecture = match mixtures::find(found, keys)? {
        Some(mixture) => Some(mixture),
        None => tables().find(|architecture| architecture.knows(infos)).or_else(|| tables().next()),
    };
    let unknown = || GgufError::Architecture { found: found.to_owned(), known: tables::names() };
    Reader { architecture: architecture.ok_or_else(unknown)?, keys, infos, files }.read()
}

impl Architecture {
    /// Whether all tensors of the first layer are in the table.
    fn knows(&self, infos: &[TensorInfo]) -> bool {
        let mut parts = infos.iter().filter_map(|info| info.name.strip_prefix("blk.0."));
        parts.all(|part| self.part(part.rsplit_once('.').map_or(part, |(stem, _)| stem)).is_some())
    }

    /// A part of a layer.
    fn part(&self, stem: &str) -> Option<&'static Name> {
        self.layer.iter().copied().flatten().find(|(own, ..)| *own == stem)
    }
}

/// A file and the table of its architecture.
pub(super) struct Reader<'a> {
    architecture: &'static Architecture,
    pub(super) keys: &'a Keys<'a>,
    pub(super) infos: &'a [TensorInfo],
    pub(super) files: &'a [&'a [u8]],
}

impl Reader<'_> {
    /// The whole name of a key of the architecture.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    pub(super) fn find(&self, tensor: &str) -> Option<&TensorInfo> {
        self.infos.iter().find(|info| info.name == tensor)
    }

    fn read(&self) -> Result<Model, GgufError> {
        const TABLE: &str = "token_embd.weight";
        let table = self.find(TABLE).ok_or_else(|| GgufError::tensor(TABLE, "is missing"))?;
        let sizes = self.sizes()?;
        let mut config = Map::new();
        config.insert("architectures".into(), Json::Array(vec![self.architecture.class.into()]));
        config.insert("model_type".into(), self.architecture.model_type.into());
        config.insert("vocab_size".into(), table.shape[0].into());
        self.keys.size(&self.key("vocab_size"))?;
        self.keys.text(&self.key("tensor_data_layout"))?; // a name for the order of rows, which the tables know
        for field in self.architecture.fields.iter().copied().flatten() {
            self.field(field, &sizes, &mut config)?;
        }
        config.insert("tie_word_embeddings".into(), self.find("output.weight").is_none().into());
        for (key, token) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            let id = self.keys.token(&format!("tokenizer.ggml.{token}_token_id"))?;
            config.insert(key.into(), id.map_or(Json::Null, Json::from));
        }
        self.keys.finish(&self.key(""))?;
        let infos = self.infos.iter().filter(|info| !rope::TENSORS.contains(&info.name.as_str()));
        let tensors = infos.map(|info| self.locate(info, &sizes)).collect::<Result<Vec<_>, _>>()?;
        Ok(Model { config, tensors: tensors.into_iter().flatten().collect() })
    }

    fn sizes(&self) -> Result<Sizes, GgufError> {
        let width = self.keys.required_size(&self.key("embedding_length"))?;
        if self.architecture.fields.iter().copied().flatten().any(|field| matches!(field, Field::NoHeads)) {
            return Ok(Sizes { width, heads: 1, kv_heads: 1, head_dim: width, value_dim: width, rotary: width });
        }
        let heads = self.keys.required_size(&self.key("attention.head_count"))?;
        let kv_heads = self.keys.size(&self.key("attention.head_count_kv"))?.filter(|&n| n > 0).unwrap_or(heads);
        let [(key, head_dim), (value_key, value_dim)] = self.head_widths()?;
        let head_dim = head_dim.unwrap_or(width / heads);
        if head_dim == 0 || head_dim % 2 == 1 {
            return Err(GgufError::key(&key, format!("makes heads of {head_dim} channels")));
        }
        let value_dim = value_dim.unwrap_or(head_dim);
        let is_latent = self.keys.size(&self.key("attention.kv_lora_rank"))?.is_some();
        if value_dim != head_dim && !is_latent {
            let problem = format!("is {value_dim} where heads have {head_dim} channels, which is not supported");
            return Err(GgufError::key(&value_key, problem));
        }
        let key = self.key("rope.dimension_count");
        let rotary = self.keys.size(&key)?.filter(|&n| n > 0).unwrap_or(head_dim);
        if rotary > head_dim || rotary % 2 == 1 {
            return Err(GgufError::key(&key, format!("is {rotary} where heads have {head_dim} channels")));
        }
        Ok(Sizes { width, heads, kv_heads, head_dim, value_dim, rotary })
    }

    /// The keys of the widths of a head's keys and values, and what they say. In newer files of latent attention
    /// the usual ones are about what is cached, and others about heads.
    fn head_widths(&self) -> Result<[(String, Option<usize>); 2], GgufError> {
        let widths = |suffix: &str| -> Result<[(String, Option<usize>); 2], GgufError> {
            let [key, value] = ["key", "value"].map(|part| self.key(&format!("attention.{part}_length{suffix}")));
            let sizes = [self.keys.size(&key)?, self.keys.size(&value)?];
            Ok([(key, sizes[0]), (value, sizes[1])])
        };
        let (usual, of_heads) = (widths("")?, widths("_mla")?);
        Ok(if of_heads[0].1.is_some() { of_heads } else { usual })
    }

    /// Puts what a field says into the config.
    fn field(&self, field: &Field, sizes: &Sizes, config: &mut Map<String, Json>) -> Result<(), GgufError> {
        let mut put = |key: &str, value: Json| drop(config.insert(key.to_owned(), value));
        match *field {
            Field::Size(key, hf) => put(hf, self.keys.required_size(&self.key(key))?.into()),
            Field::OptionalSize(key, hf) => {
                let size = self.keys.size(&self.key(key))?.filter(|&n| n > 0);
                size.into_iter().for_each(|size| put(hf, size.into()));
            }
            Field::Number(key, hf) => {
                let key = self.key(key);
                put(hf, self.keys.number(&key)?.ok_or_else(|| GgufError::key(&key, "is missing"))?.into());
            }
            Field::OptionalNumber(key, hf) => {
                let number = self.keys.number(&self.key(key))?.filter(|&x| x != 0.0);
                number.into_iter().for_each(|number| put(hf, number.into()));
            }
            Field::Flag(key, hf) => {
                self.keys.flag(&self.key(key))?.into_iter().for_each(|flag| put(hf, flag.into()));
            }
            Field::Zero(key) => self.require(key, 0)?,
            Field::NoHeads => self.require("attention.head_count", 0)?,
            Field::Only(key, size) => self.require(key, size)?,
            Field::Known(key) => drop(self.keys.size(&self.key(key))?),
            Field::Present(tensor, hf) => put(hf, self.find(tensor).is_some().into()),
            Field::Always(hf, Constant::Text(text)) => put(hf, text.into()),
            Field::Always(hf, Constant::Flag(flag)) => put(hf, flag.into()),
            Field::Always(hf, Constant::Size(size)) => put(hf, size.into()),
            Field::Heads => put("head_dim", sizes.head_dim.into()),
            Field::Rope(rope) => {
                put("rope_parameters", rope::parameters(self, rope, sizes)?);
                let mut fields = self.architecture.fields.iter().copied().flatten();
                // Latent attention has heads of channels that all turn beside those that do not.
                if !fields.any(|field| matches!(field, Field::LatentHeads)) {
                    put("partial_rotary_factor", share(sizes.rotary, sizes.head_dim).into());
                }
            }
            Field::LatentHeads if sizes.rotary < sizes.head_dim => {
                put("qk_nope_head_dim", (sizes.head_dim - sizes.rotary).into());
                put("qk_rope_head_dim", sizes.rotary.into());
                put("v_head_dim", sizes.value_dim.into());
                put("num_key_value_heads", sizes.heads.into());
            }
            Field::LatentHeads => {
                let key = self.key("rope.dimension_count");
                return Err(GgufError::key(&key, "leaves no channels without a position, which is not supported"));
            }
            Field::YarnTruncates(truncates) => rope::add_to_yarn(config, &[("truncate", truncates.into())]),
            Field::YarnCoefficients => {
                // The converter multiplies the coefficient by a tenth.
                let tenth = self.keys.number(&self.key("rope.scaling.yarn_log_multiplier"))?.filter(|&x| x != 0.0);
                let names = ["mscale", "mscale_all_dim"];
                tenth.iter().for_each(|x| rope::add_to_yarn(config, &names.map(|name| (name, (x * 10.0).into()))));
            }
            Field::ScoreWidth(layers) => {
                let is_wide = self.keys.size(&self.key("block_count"))? == Some(layers);
                put("query_pre_attn_scalar", if is_wide { sizes.width / sizes.heads } else { sizes.head_dim }.into());
            }
        }
        Ok(())
    }

    /// Rejects a size that is there and another than this.
    fn require(&self, key: &str, size: usize) -> Result<(), GgufError> {
        let key = self.key(key);
        match self.keys.size(&key)?.filter(|&found| found != size) {
            Some(_) => Err(GgufError::key(&key, "asks for what is not supported for this architecture")),
            None => Ok(()),
        }
    }

    /// Tensors under transformers' names; one that is not known keeps its own.
    fn locate(&self, info: &TensorInfo, sizes: &Sizes) -> Result<Vec<(String, Stored)>, GgufError> {
        let Some((name, change)) = self.translated(&info.name) else {
            return Ok(vec![(info.name.clone(), info.stored())]);
        };
        let wrong = |problem: String| Err(GgufError::tensor(&info.name, problem));
        let stored = match change {
            Change::None | Change::Bare | Change::Unsuffixed => info.stored(),
            Change::NegativeExp => info.stored().mapped(Function::LogOfNegative),
            Change::Depthwise => match info.shape[..] {
                [channels, taps] => Stored { shape: vec![channels, 1, taps], ..info.stored() },
                _ => info.stored(),
            },
            Change::Row => match info.shape[..] {
                [width] | [1, width] => Stored { shape: vec![1, width], ..info.stored() },
                _ => return wrong("is no vector".into()),
            },
            Change::PlusOne if name.ends_with(".weight") => info.stored().mapped(Function::Plus(-1.0)),
            Change::PlusOne => info.stored(),
            Change::Transposed if info.shape.len() < 2 => info.stored(),
            Change::Transposed => info.stored().transposed(),
            Change::QueryPairs => self.halves(info, sizes.heads, sizes)?,
            Change::KeyPairs => self.halves(info, sizes.kv_heads, sizes)?,
            Change::Joint => self.grouped(info, sizes)?,
            Change::Stacked => {
                let [heads, width] = info.shape[..] else { return wrong("is no stack of vectors".into()) };
                if info.storage() != Storage::Dense(DType::F32) {
                    return wrong("is no stack of f32 vectors".into());
                }
                let vector = |h: usize| Stored::plain(info.span().part(h, heads), info.storage(), vec![width]);
                return Ok((0..heads).map(|h| (name.replace("{h}", &h.to_string()), vector(h))).collect());
            }
        };
        Ok(vec![(name, stored)])
    }

    /// Rows of heads whose rotary pairs are neighbours, with the pairs half a head apart.
    fn halves(&self, info: &TensorInfo, heads: usize, sizes: &Sizes) -> Result<Stored, GgufError> {
        check_rows(info, heads * sizes.head_dim, &format!("{heads} heads × {}", sizes.head_dim))?;
        Ok(ordered(info, heads, 2, vec![1; sizes.head_dim / 2]))
    }

    /// Rows of queries, keys and values as a group for each key head.
    fn grouped(&self, info: &TensorInfo, sizes: &Sizes) -> Result<Stored, GgufError> {
        let Sizes { heads, kv_heads, head_dim, .. } = *sizes;
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, which does not divide {heads} heads");
            return Err(GgufError::key(&self.key("attention.head_count_kv"), problem));
        }
        let made_of = format!("{heads} heads of queries, {kv_heads} of keys and of values × {head_dim}");
        check_rows(info, (heads + 2 * kv_heads) * head_dim, &made_of)?;
        Ok(ordered(info, 1, kv_heads, vec![heads / kv_heads * head_dim, head_dim, head_dim]))
    }

    /// `blk.3.ffn_up.weight` is `model.layers.3.mlp.up_proj.weight`.
    fn translated(&self, name: &str) -> Option<(String, Change)> {
        let suffixed = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"));
        let (stem, kind) = suffixed.unwrap_or((name, ""));
        if let Some((_, hf, change)) = self.architecture.top.iter().find(|(own, ..)| *own == stem) {
            return Some((format!("{hf}.{kind}"), *change));
        }
        let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
        let (_, hf, change) = self.architecture.part(part)?;
        let layers = self.architecture.layers;
        let is_bare = matches!(change, Change::Bare | Change::NegativeExp | Change::Unsuffixed);
        let kind = if is_bare { String::new() } else { format!(".{kind}") };
        let is_layer = layer.bytes().all(|b| b.is_ascii_digit()) && (suffixed.is_some() || is_bare);
        is_layer.then(|| (format!("{layers}.{layer}.{hf}{kind}"), *change))
    }
}

/// Refuses a tensor that has not so many rows, or whose rows cannot be told apart.
fn check_rows(info: &TensorInfo, rows: usize, made_of: &str) -> Result<(), GgufError> {
    if info.shape[0] != rows {
        let problem = format!("has {} rows, expected {rows} ({made_of})", info.shape[0]);
        return Err(GgufError::tensor(&info.name, problem));
    }
    if info.shape.len() == 1 && info.storage().block().0 > 1 {
        let problem = "is a vector stored in blocks, whose rows cannot be put in order";
        return Err(GgufError::tensor(&info.name, problem));
    }
    Ok(())
}

/// A tensor with its rows in another order (see [`Rows`]).
fn ordered(info: &TensorInfo, outer: usize, groups: usize, parts: Vec<usize>) -> Stored {
    let rows = Rows { spans: vec![info.span()], outer, groups, parts };
    Stored { shape: info.shape.clone(), storage: info.storage(), recipe: Recipe::Rows(rows) }
}

/// The share whose product with a whole, truncated, is a part.
fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    if (share * whole as f64) as usize == part { share } else { share.next_up() }
}
