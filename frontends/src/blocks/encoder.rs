//! Encoders as data, and the entries that every encoder has.

use castiron_ir::op::{BinaryOp, UnaryOp};
use castiron_ir::{BuildError, DType, Dim, Entry, Type, Value};

use super::embedding::running_count;
use super::{
    Distances, Embedding, Inventory, Layer, LinearKind, ModelBuilder, NamedNorm, Pooling, PoolingMode, RelativeBias,
    Rotary, Size, Tokens,
};

/// A model that sees token sequences from both sides: embeddings, layers, and heads.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Scope of all tensors but those of heads, and of the table of tokens.
    pub prefix: String,
    /// Width of the layers.
    pub width: Size,
    /// Before the layers.
    pub embedding: Embedding,
    /// The token that pads: positions are counted without it, from the number after it. Without one every
    /// token counts, from 0.
    pub uncounted: Option<u32>,
    /// Rotary tables that layers take.
    pub rotary: Vec<Rotary>,
    /// Added to the scores of every layer.
    pub relative: Option<(&'static str, RelativeBias)>,
    /// Rows of the table of relative positions that layers take.
    pub distances: Option<Distances>,
    /// The layers.
    pub layers: Stack,
    /// After the layers.
    pub final_norm: Option<NamedNorm>,
    /// What stands on top.
    pub heads: Heads,
    /// Positions that can be told apart.
    pub max_positions: Option<usize>,
    /// Patterns of names of tensors that no computation needs.
    pub known_unused: &'static [&'static str],
    /// Patterns of names of heads' tensors, which the base model leaves aside.
    pub known_heads: &'static [&'static str],
}

/// Layers and their names.
#[derive(Clone, Debug)]
pub enum Stack {
    /// `name.0`, `name.1`, …
    Own(&'static str, Vec<Layer>),
    /// Groups `names.0.0.1.0`, `names.0.0.1.1`, …: each group as often as `times` says, one after another.
    Shared {
        /// Name of the list of groups, and of a group's list of layers.
        names: [&'static str; 2],
        /// Layers of a group.
        group: Vec<Layer>,
        /// How often each group is applied.
        times: Vec<usize>,
    },
}

/// The heads of a family.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Gives `pooler_output` of the base model, where its tensors are stored.
    pub pooler: Option<Transform>,
    /// Scores of all tokens at each token.
    pub masked: Option<MaskedHead>,
    /// Scores of the labels of a sequence.
    pub sequence: Classifier,
    /// The score of a sequence among several.
    pub choice: Classifier,
    /// Scores of the labels of each token.
    pub tokens: Classifier,
    /// Scores of each token as the start and as the end of an answer.
    pub span: Classifier,
    /// The score of each token as one that was replaced.
    pub replaced: Option<Classifier>,
}

/// A dense layer, a function and a norm before a head's scores. Names are whole.
#[derive(Clone, Debug)]
pub struct Transform {
    /// The dense layer.
    pub dense: String,
    /// Its kind.
    pub linear: LinearKind,
    /// Width of what it gives.
    pub width: Size,
    /// Function after it.
    pub activation: UnaryOp,
    /// Norm after that.
    pub norm: Option<NamedNorm>,
}

/// Scores of labels.
#[derive(Clone, Debug)]
pub struct Classifier {
    /// What is classified; every token if nothing.
    pub pooling: Option<PoolingMode>,
    /// Before the scores.
    pub transform: Option<Transform>,
    /// The dense layer of the scores.
    pub scores: &'static str,
    /// Its kind.
    pub linear: LinearKind,
}

/// Scores of the tokens of the vocabulary.
#[derive(Clone, Debug)]
pub struct MaskedHead {
    /// Before the scores.
    pub transform: Transform,
    /// Name of the matrix as a whole.
    pub matrix: String,
    /// Name of the bias as a whole.
    pub bias: Option<String>,
}

impl Transform {
    /// A dense layer with bias between vectors as wide as the model, and a function.
    pub fn dense(name: impl Into<String>, width: &Size, activation: UnaryOp) -> Transform {
        let (dense, width) = (name.into(), width.clone());
        Transform { dense, linear: LinearKind::BIASED, width, activation, norm: None }
    }

    /// The same with a norm.
    pub fn normed(self, norm: NamedNorm) -> Transform {
        Transform { norm: Some(norm), ..self }
    }
}

impl Classifier {
    /// Scores of each token, with bias.
    pub fn tokens(scores: &'static str) -> Classifier {
        Classifier { pooling: None, transform: None, scores, linear: LinearKind::BIASED }
    }

    /// Scores of the transformed first token, with bias.
    pub fn first_token(transform: Transform, scores: &'static str) -> Classifier {
        Classifier { pooling: Some(PoolingMode::Cls), transform: Some(transform), ..Classifier::tokens(scores) }
    }
}

impl Heads {
    /// Heads as BERT has them: labels of a sequence go by what the pooler makes of the first token.
    pub fn of_pooler(pooler: Transform, masked: MaskedHead) -> Heads {
        let sequence = Classifier::first_token(pooler.clone(), "classifier");
        Heads {
            pooler: Some(pooler),
            masked: Some(masked),
            choice: sequence.clone(),
            sequence,
            tokens: Classifier::tokens("classifier"),
            span: Classifier::tokens("qa_outputs"),
            replaced: None,
        }
    }
}

/// A choice among sequences has inputs of one more axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    Sequences,
    Choices,
}

impl Encoder {
    /// The builder that knows the mask, and vectors `[b, s, n]` after the last layer.
    fn encode<'a>(&self, m: &ModelBuilder<'a>, inputs: Inputs) -> (ModelBuilder<'a>, Value) {
        let shape = match inputs {
            Inputs::Sequences => vec![Dim::symbol("b"), Dim::symbol("s")],
            Inputs::Choices => vec![Dim::symbol("b"), Dim::symbol("n"), Dim::symbol("s")],
        };
        let (m, mut tokens) = m.sequences(&shape, self.embedding.types.is_some());
        // By place in the row, whatever positions are counted.
        let relative = self.relative.as_ref().map(|(_, bias)| m.distances(bias, &tokens));
        if let Some(pad) = self.uncounted {
            let counts = tokens.ids.binary(BinaryOp::Ne, &tokens.ids.constant(pad.into()));
            tokens.positions = running_count(&counts) * counts.cast(DType::I32) + f64::from(pad);
        }
        let mut inner = m.with_rotary(&self.rotary, &tokens);
        inner.context.distances = self.distances.as_ref().map(|distances| m.rows_of_distances(distances));
        if let Some((table, bias)) = &self.relative {
            inner.context.relative = relative;
            inner.context.bias = Some(inner.scope(&self.prefix).relative_bias(table, bias));
        }
        let x = inner.embedded(&self.prefix, &self.embedding, &tokens);
        let inner = inner.scope(&self.prefix);
        let x = match &self.layers {
            Stack::Own(name, layers) => inner.layers(name, layers, &x, |m, layer, x| m.layer(x, layer)),
            Stack::Shared { names: [groups, name], group, times } => {
                times.iter().enumerate().fold(x, |x, (number, &times)| {
                    let m = inner.scope(&format!("{groups}.{number}"));
                    m.shared_layers(name, group, times, &x, |m, layer, x| m.layer(x, layer))
                })
            }
        };
        let x = self.final_norm.iter().fold(x, |x, (name, norm)| inner.norm(name, &x, norm));
        (m, x)
    }

    fn transformed(&self, m: &ModelBuilder<'_>, x: &Value, transform: &Transform) -> Value {
        let x = m.linear(&transform.dense, x, [&self.width, &transform.width], transform.linear);
        let x = x.unary(transform.activation);
        transform.norm.iter().fold(x, |x, (name, norm)| m.norm(name, &x, norm))
    }

    fn classified(&self, m: &ModelBuilder<'_>, x: &Value, head: &Classifier, labels: &Size) -> Value {
        let mut x = head.pooling.map_or_else(|| x.clone(), |mode| m.pooled(x, mode));
        if let Some(transform) = &head.transform {
            x = self.transformed(m, &x, transform);
        }
        m.linear(head.scores, &x, [&self.width, labels], head.linear)
    }

    /// The entries of a base model: `forward`, to `last_hidden_state` and, with a pooler, `pooler_output`; and
    /// `embed`, to `sentence_embedding`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn hidden_entries(&self, tensors: &Inventory<'_>, pooling: &Pooling) -> Result<Vec<Entry>, BuildError> {
        let is_stored = |pooler: &&Transform| tensors.has(&format!("{}.weight", pooler.dense));
        let pooler = self.heads.pooler.as_ref().filter(is_stored);
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, x) = self.encode(m, Inputs::Sequences);
            let pooled = |pooler| ("pooler_output", self.transformed(&m, &m.pooled(&x, PoolingMode::Cls), pooler));
            [("last_hidden_state", x.clone())].into_iter().chain(pooler.map(pooled)).collect()
        })?;
        let embed = ModelBuilder::entry("embed", tensors, |m| {
            let (m, x) = self.encode(m, Inputs::Sequences);
            vec![("sentence_embedding", m.pool(&x, &self.width, pooling))]
        })?;
        Ok(vec![forward, embed])
    }

    /// The entry of a masked language model: to the `logits` of all tokens at each token.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn masked_entries(&self, tensors: &Inventory<'_>, head: &MaskedHead) -> Result<Vec<Entry>, BuildError> {
        self.forward(tensors, Inputs::Sequences, |m, x| {
            let x = self.transformed(m, x, &head.transform);
            let vocab = &self.embedding.vocab;
            let logits = x.linear(&m.param(&head.matrix, &[vocab, &head.transform.width]));
            let bias = head.bias.iter().map(|name| m.param(name, &[vocab]));
            vec![("logits", bias.fold(logits, |logits, bias| logits + bias))]
        })
    }

    /// The entry of a classifier of sequences or tokens: to the `logits` of its labels.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn class_entries(
        &self,
        tensors: &Inventory<'_>,
        head: &Classifier,
        labels: &Size,
    ) -> Result<Vec<Entry>, BuildError> {
        self.forward(tensors, Inputs::Sequences, |m, x| vec![("logits", self.classified(m, x, head, labels))])
    }

    /// The entry of a model that finds answers: to the `start_logits` and `end_logits` of each token.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn span_entries(&self, tensors: &Inventory<'_>, labels: &Size) -> Result<Vec<Entry>, BuildError> {
        self.forward(tensors, Inputs::Sequences, |m, x| {
            let scores = self.classified(m, x, &self.heads.span, labels);
            let part = |at: usize| scores.slice(2, at, at + 1).reshape([x.dim(0), x.dim(1)]);
            vec![("start_logits", part(0)), ("end_logits", part(1))]
        })
    }

    /// The entry of a model that tells replaced tokens: to one of the `logits` for each token.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn replaced_entries(&self, tensors: &Inventory<'_>, head: &Classifier) -> Result<Vec<Entry>, BuildError> {
        self.forward(tensors, Inputs::Sequences, |m, x| {
            let scores = self.classified(m, x, head, &Size::new(1, "one score"));
            vec![("logits", scores.reshape([x.dim(0), x.dim(1)]))]
        })
    }

    /// The entry of a model that chooses among sequences `[b, n, s]`: to the `logits` of each, `[b, n]`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn choice_entries(&self, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
        self.forward(tensors, Inputs::Choices, |m, x| {
            let scores = self.classified(m, x, &self.heads.choice, &Size::new(1, "one score"));
            vec![("logits", scores.reshape([Dim::symbol("b"), Dim::symbol("n")]))]
        })
    }

    fn forward(
        &self,
        tensors: &Inventory<'_>,
        inputs: Inputs,
        head: impl Fn(&ModelBuilder<'_>, &Value) -> Vec<(&'static str, Value)>,
    ) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, x) = self.encode(m, inputs);
            head(&m, &x)
        })?;
        Ok(vec![forward])
    }
}

impl ModelBuilder<'_> {
    /// Reads whole sequences of a shape that ends with the tokens': inputs `input_ids`, `attention_mask` and,
    /// where asked for, `token_type_ids`. Axes before the tokens are one.
    fn sequences(&self, shape: &[Dim], types: bool) -> (Self, Tokens) {
        let rows = Dim::product(&shape[..shape.len() - 1]);
        let read = |name: &str| {
            let input = self.input(name, Type::i32(shape));
            if shape.len() == 2 { input } else { input.reshape([rows.clone(), shape[shape.len() - 1].clone()]) }
        };
        let (ids, mask) = (read("input_ids"), read("attention_mask"));
        let (m, tokens) = self.sequence_of(ids, &mask);
        (m, Tokens { types: types.then(|| read("token_type_ids")), ..tokens })
    }
}
