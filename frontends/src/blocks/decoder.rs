//! Decoders as data, and the entries that every decoder has.

use castiron_ir::op::{BinaryOp, Gather, ReduceKind, UnaryOp};
use castiron_ir::{BuildError, Entry, Value};

use super::encoder_decoder::last_place;
use super::{
    Alibi, Embedding, FurtherInputs, Inventory, Layer, LinearKind, Mixer, ModelBuilder, NamedNorm, Pooling, Rotary,
    Size, Tokens,
};

/// A causal model of token sequences: embeddings, layers, a norm, and a matrix of scores.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Scope of all tensors but the matrix of scores, and the table of tokens if that is it.
    pub prefix: String,
    /// Width of the layers.
    pub width: Size,
    /// Before the layers.
    pub embedding: Embedding,
    /// Rotary tables that layers take.
    pub rotary: Vec<Rotary>,
    /// How scores fall with the distance.
    pub alibi: Option<Alibi>,
    /// Name of the list of layers.
    pub layers_name: &'static str,
    /// The layers.
    pub layers: Vec<Layer>,
    /// After the layers.
    pub final_norm: Option<NamedNorm>,
    /// A layer without bias that makes vectors as wide as the table of tokens.
    pub projection: Option<&'static str>,
    /// Scores of the next token.
    pub scores: Scores,
    /// Positions that can be told apart.
    pub max_positions: Option<usize>,
    /// Patterns of names of tensors that no computation needs.
    pub known_unused: &'static [&'static str],
}

/// The matrix of scores of the next token.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Name of the matrix.
    pub matrix: String,
    /// Name of a bias.
    pub bias: Option<&'static str>,
    /// Factor of the scores.
    pub scale: f64,
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f64>,
}

impl Scores {
    /// A matrix and no more.
    pub fn plain(matrix: String) -> Scores {
        Scores { matrix, bias: None, scale: 1.0, soft_cap: None }
    }
}

/// What classifies sequences: the layer `score`, without bias, on one token of each row.
#[derive(Clone, Debug)]
pub struct SequenceHead {
    /// Number of labels.
    pub labels: Size,
    /// Which token.
    pub token: Classified,
}

/// The token by which a row is classified.
#[derive(Clone, Copy, Debug)]
pub enum Classified {
    /// The last one.
    Last,
    /// The last one that is not this.
    LastOther(u32),
    /// The one before the first that is this, or the last one where none is or the first one is.
    BeforeFirst(u32),
}

impl Decoder {
    /// Vectors `[b, s, n]` after the last layer.
    fn layers(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value {
        let mut m = m.with_rotary(&self.rotary, tokens);
        if let Some(alibi) = &self.alibi {
            m.context.bias = Some(m.alibi(alibi));
        }
        let x = m.embedded(&self.prefix, &self.embedding, tokens);
        if self.layers.iter().any(|layer| matches!(layer.mixer.1, Mixer::Shared(_))) {
            m.context.embedded = Some(x.clone());
        }
        m.scope(&self.prefix).layers(self.layers_name, &self.layers, &x, |m, layer, x| m.layer(x, layer))
    }

    /// What comes after the last layer and sees each token alone.
    fn normalised(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        let m = m.scope(&self.prefix);
        let x = match &self.final_norm {
            Some((name, norm)) => m.norm(name, x, norm),
            None => x.clone(),
        };
        match self.projection {
            Some(name) => m.linear(name, &x, [&self.width, &self.embedding.width], LinearKind::PLAIN),
            None => x,
        }
    }

    /// Scores of the next token, `[.., vocab]`.
    fn logits(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        m.scores(&self.scores, x, [&self.embedding.vocab, &self.embedding.width])
    }

    /// The entries of a base model: `forward`, a whole sequence to `last_hidden_state`; and, where the
    /// checkpoint says how sentences are embedded, `embed`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn hidden_entries(&self, tensors: &Inventory<'_>, pooling: Option<&Pooling>) -> Result<Vec<Entry>, BuildError> {
        let hidden = |m: &ModelBuilder<'_>, tokens: &Tokens| self.normalised(m, &self.layers(m, tokens));
        let mut entries = vec![ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens) = m.whole_sequence();
            vec![("last_hidden_state", hidden(&m, &tokens))]
        })?];
        if let Some(pooling) = pooling {
            entries.push(ModelBuilder::entry("embed", tensors, |m| {
                let (m, tokens) = m.whole_sequence();
                vec![("sentence_embedding", m.pool(&hidden(&m, &tokens), &self.embedding.width, pooling))]
            })?);
        }
        Ok(entries)
    }

    /// The entries of a language model: `forward`, a whole sequence to the `logits` of every token; and
    /// `step`, a continuation to the `logits` after the tokens at the positions `last: i32[b]`, and to the
    /// `best` token there: `i32[b]`, the first of the largest logits.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn language_model_entries(&self, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens) = m.whole_sequence();
            let x = self.normalised(&m, &self.layers(&m, &tokens));
            vec![("logits", self.logits(&m, &x))]
        })?;
        let step = ModelBuilder::entry("step", tensors, |m| {
            let further = FurtherInputs {
                length: self.rotary.iter().any(|rotary| rotary.growth.is_some()),
                count: self.layers.iter().any(|layer| layer.mixer.1.remembers()),
            };
            let (m, tokens, last) = m.next_tokens(further);
            let x = self.layers(&m, &tokens).apply(Gather { axis: 1, batch: Some(1) }, &[&last]);
            let logits = self.logits(&m, &self.normalised(&m, &x));
            let best = logits.arg_max_last();
            vec![("logits", logits), ("best", best)]
        })?;
        Ok(vec![forward, step])
    }

    /// The entry `forward` of a classifier: a whole sequence to the `logits` of its labels.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn sequence_entries(&self, tensors: &Inventory<'_>, head: &SequenceHead) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens) = m.whole_sequence();
            let x =
                self.layers(&m, &tokens).apply(Gather { axis: 1, batch: Some(1) }, &[&classified(&tokens, head.token)]);
            let x = self.normalised(&m, &x);
            vec![("logits", m.linear("score", &x, [&self.embedding.width, &head.labels], LinearKind::PLAIN))]
        })?;
        Ok(vec![forward])
    }
}

/// Place of the token by which each row is classified, `i32[b]`.
fn classified(tokens: &Tokens, token: Classified) -> Value {
    let ids = &tokens.ids;
    let place = ids.builder().iota([ids.dim(0), ids.dim(1)], 1);
    let last = || place.reduce(ReduceKind::Max, &[1]).reshape([ids.dim(0)]);
    match token {
        Classified::LastOther(pad) => last_place(ids, BinaryOp::Ne, pad),
        Classified::Last => last(),
        Classified::BeforeFirst(pad) => {
            let is_pad = ids.binary(BinaryOp::Eq, &ids.constant(pad.into()));
            let before = is_pad.select(&(&place - 1.0), &place.constant(i32::MAX.into()));
            let first = before.reduce(ReduceKind::Min, &[1]).reshape([ids.dim(0)]);
            // Where padding comes first, -1 is the last place.
            let is_none = first.binary(BinaryOp::Lt, &first.constant(0.0));
            is_none.select(&last(), &first).binary(BinaryOp::Min, &last())
        }
    }
}

impl ModelBuilder<'_> {
    /// Scores of all tokens, `[.., vocab]`, for vectors `[.., width]`.
    pub(super) fn scores(&self, scores: &Scores, x: &Value, [vocab, width]: [&Size; 2]) -> Value {
        let Scores { matrix, bias, scale, soft_cap } = scores;
        let mut logits = x.linear(&self.param(matrix, &[vocab, width]));
        if let Some(name) = bias {
            logits = logits + self.param(name, &[vocab]);
        }
        if *scale != 1.0 {
            logits = logits * *scale;
        }
        soft_cap.map_or_else(|| logits.clone(), |cap| soft_capped(&logits, cap))
    }
}

/// `cap · tanh(x / cap)`
pub(super) fn soft_capped(x: &Value, cap: f64) -> Value {
    (x * (1.0 / cap)).unary(UnaryOp::Tanh) * cap
}
