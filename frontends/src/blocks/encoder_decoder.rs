//! Encoder–decoders as data, and the entries that they have.
//!
//! `forward` takes both sequences whole. To generate, `encode` reads the source once: it keeps the source's
//! mask, and of each decoder layer the keys and values of its cross-attention, `[b, g, e, d]`. `step` goes on
//! from there as that of a decoder.

use castiron_ir::op::{BinaryOp, Gather, ReduceKind, UnaryOp};
use castiron_ir::{BuildError, DType, Dim, Entry, Type, Value};

use super::{
    Context, Cross, Embedding, FurtherInputs, Inventory, Layer, LinearKind, ModelBuilder, NamedNorm, Pooling,
    RelativeBias, Scores, Size, Source, Tokens,
};

/// Name of the state that holds the mask of the source, `i32[b, e]`.
const SOURCE_MASK: &str = "source_mask";

/// One half of an encoder–decoder: embeddings, layers, a norm.
#[derive(Clone, Debug)]
pub struct Half {
    /// Scope of all tensors but the table of tokens.
    pub prefix: String,
    /// Before the layers.
    pub embedding: Embedding,
    /// How scores depend on relative positions.
    pub relative: Option<RelativeBias>,
    /// Scope of the table of biases by relative position, if all layers share one.
    pub shared_bias: Option<&'static str>,
    /// Name of the list of layers.
    pub layers_name: &'static str,
    /// The layers.
    pub layers: Vec<Layer>,
    /// After the layers.
    pub final_norm: Option<NamedNorm>,
}

/// An encoder, a decoder that sees what it has read, and a matrix of scores.
#[derive(Clone, Debug)]
pub struct EncoderDecoder {
    /// Reads the source.
    pub encoder: Half,
    /// Writes the target; its layers have cross-attention.
    pub decoder: Half,
    /// Scores of the next token.
    pub scores: Scores,
    /// Name of a bias of the scores, `[1, vocab]`.
    pub scores_bias: Option<String>,
}

/// How a model that reads one text makes the decoder's tokens of the encoder's: one place to the right.
#[derive(Clone, Copy, Debug)]
pub enum Shift {
    /// Behind this token.
    Start(u32),
    /// Behind the text's own last token that is not this padding (mBART).
    LastBefore(u32),
}

impl Half {
    /// Vectors `[b, s, n]` after the last layer.
    fn layers(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value {
        let mut m = m.clone();
        if let Some(bias) = &self.relative {
            m.context.relative = Some(m.distances(bias, tokens));
            m.context.bias = self.shared_bias.map(|table| m.scope(&self.prefix).relative_bias(table, bias));
        }
        let x = m.embedded(&self.prefix, &self.embedding, tokens);
        m.scope(&self.prefix).layers(self.layers_name, &self.layers, &x, |m, layer, x| m.layer(x, layer))
    }

    /// What comes after the last layer.
    fn normalised(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        match &self.final_norm {
            Some((name, norm)) => m.scope(&self.prefix).norm(name, x, norm),
            None => x.clone(),
        }
    }

    /// Vectors `[b, s, n]` of tokens.
    fn vectors(&self, m: &ModelBuilder<'_>, tokens: &Tokens) -> Value {
        self.normalised(m, &self.layers(m, tokens))
    }

    /// The entries of an encoder that stands alone: `forward`, a whole sequence to `last_hidden_state`; and,
    /// where the checkpoint says how sentences are embedded, `embed`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn hidden_entries(&self, tensors: &Inventory<'_>, pooling: Option<&Pooling>) -> Result<Vec<Entry>, BuildError> {
        let mut entries = vec![ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens) = m.whole_sequence();
            vec![("last_hidden_state", self.vectors(&m, &tokens))]
        })?];
        if let Some(pooling) = pooling {
            entries.push(ModelBuilder::entry("embed", tensors, |m| {
                let (m, tokens) = m.whole_sequence();
                vec![("sentence_embedding", m.pool(&self.vectors(&m, &tokens), &self.embedding.width, pooling))]
            })?);
        }
        Ok(entries)
    }

    /// The entry `forward` of an encoder that labels tokens: the layer `classifier` on each.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn token_entries(&self, tensors: &Inventory<'_>, labels: &Size) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens) = m.whole_sequence();
            let x = self.vectors(&m, &tokens);
            vec![("logits", m.linear("classifier", &x, [&self.embedding.width, labels], LinearKind::BIASED))]
        })?;
        Ok(vec![forward])
    }
}

impl EncoderDecoder {
    /// Reads the source: inputs `input_ids` and `attention_mask`. Gives its vectors, with a builder for layers
    /// that see them.
    fn read<'a>(&self, m: &ModelBuilder<'a>) -> (ModelBuilder<'a>, Tokens, Value) {
        let (encoder, tokens) = m.masked_sequence(m.input("input_ids", Type::i32(["b", "e"])), "attention_mask");
        let vectors = self.encoder.vectors(&encoder, &tokens);
        let source = encoder.context.mask.map(|mask| Source { vectors: Some(vectors.clone()), mask });
        (m.with_context(Context { source, ..m.context.clone() }), tokens, vectors)
    }

    /// Reads both sequences: also `decoder_input_ids` and `decoder_attention_mask`. Gives the decoder's vectors,
    /// with its builder, and the encoder's.
    fn both<'a>(&self, m: &ModelBuilder<'a>) -> (ModelBuilder<'a>, [Value; 2]) {
        let (m, _, vectors) = self.read(m);
        let ids = m.input("decoder_input_ids", Type::i32(["b", "s"]));
        let (m, tokens) = m.masked_sequence(ids, "decoder_attention_mask");
        let x = self.decoder.vectors(&m, &tokens);
        (m, [x, vectors])
    }

    /// The entry `forward` of a base model: both sequences to `last_hidden_state` and
    /// `encoder_last_hidden_state`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn hidden_entries(&self, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (_, [x, vectors]) = self.both(m);
            vec![("last_hidden_state", x), ("encoder_last_hidden_state", vectors)]
        })?;
        Ok(vec![forward])
    }

    /// The entries of a model that generates: `forward`, `encode` and `step`, as the module says.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn generation_entries(&self, tensors: &Inventory<'_>) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, [x, vectors]) = self.both(m);
            vec![("logits", self.logits(&m, &x)), ("encoder_last_hidden_state", vectors)]
        })?;
        let encode = ModelBuilder::entry("encode", tensors, |m| {
            let (m, _, vectors) = self.read(m);
            self.keep_source(&m, &vectors);
            vec![("encoder_last_hidden_state", vectors)]
        })?;
        let step = ModelBuilder::entry("step", tensors, |m| {
            let mask = m.kept(SOURCE_MASK, Type::i32(["b", "e"]));
            let source = Source { vectors: None, mask: mask.binary(BinaryOp::Ne, &mask.constant(0.0)) };
            let m = m.with_context(Context { source: Some(source), ..m.context.clone() });
            let (m, tokens, last) = m.next_tokens(FurtherInputs::default());
            let x = self.decoder.layers(&m, &tokens).apply(Gather { axis: 1, batch: Some(1) }, &[&last]);
            let logits = self.logits(&m, &self.decoder.normalised(&m, &x));
            let best = logits.arg_max_last();
            vec![("logits", logits), ("best", best)]
        })?;
        Ok(vec![forward, encode, step])
    }

    /// Keeps what `step` needs of the source.
    fn keep_source(&self, m: &ModelBuilder<'_>, vectors: &Value) {
        if let Some(source) = &m.context.source {
            m.keep(SOURCE_MASK, &source.mask.cast(DType::I32));
        }
        let keep = |m: &ModelBuilder<'_>, layer: &Layer, x: &Value| {
            if let Some(Cross { attention: (name, attention), .. }) = &layer.cross {
                m.keep_source(name, x, attention);
            }
            x.clone()
        };
        m.scope(&self.decoder.prefix).layers(self.decoder.layers_name, &self.decoder.layers, vectors, keep);
    }

    /// Scores of the next token, `[.., vocab]`.
    fn logits(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        let Embedding { vocab, width, .. } = &self.decoder.embedding;
        let logits = m.scores(&self.scores, x, [vocab, width]);
        match &self.scores_bias {
            Some(name) => logits + m.param(name, &[&Size::new(1, "1"), vocab]).reshape([vocab.value()]),
            None => logits,
        }
    }

    /// The decoder's vectors where both halves read one text, with the text's tokens.
    fn one_text<'a>(&self, m: &ModelBuilder<'a>, shift: Shift) -> (ModelBuilder<'a>, Tokens, Value, Value) {
        let (m, tokens, vectors) = self.read(m);
        let shifted = m.tokens(shifted(&tokens.ids, shift));
        let x = self.decoder.vectors(&m, &shifted);
        (m, tokens, x, vectors)
    }

    /// The entry `forward` of a classifier: one text to the `logits` of its labels, by the last vector that stands
    /// where the token `end` does.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn sequence_entries(
        &self,
        tensors: &Inventory<'_>,
        labels: &Size,
        (shift, end): (Shift, u32),
    ) -> Result<Vec<Entry>, BuildError> {
        let width = &self.decoder.embedding.width;
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, tokens, x, vectors) = self.one_text(m, shift);
            let last = last_place(&tokens.ids, BinaryOp::Eq, end);
            let x = x.apply(Gather { axis: 1, batch: Some(1) }, &[&last]);
            let m = m.scope("classification_head");
            let x = m.linear("dense", &x, [width, width], LinearKind::BIASED).unary(UnaryOp::Tanh);
            let logits = m.linear("out_proj", &x, [width, labels], LinearKind::BIASED);
            vec![("logits", logits), ("encoder_last_hidden_state", vectors)]
        })?;
        Ok(vec![forward])
    }

    /// The entry `forward` of a model that finds answers: one text to `start_logits` and `end_logits`.
    ///
    /// # Errors
    /// The first op that could not be applied.
    pub fn span_entries(&self, tensors: &Inventory<'_>, labels: &Size, shift: Shift) -> Result<Vec<Entry>, BuildError> {
        let forward = ModelBuilder::entry("forward", tensors, |m| {
            let (m, _, x, vectors) = self.one_text(m, shift);
            let scores = m.linear("qa_outputs", &x, [&self.decoder.embedding.width, labels], LinearKind::BIASED);
            let part = |at: usize| scores.slice(2, at, at + 1).reshape([x.dim(0), x.dim(1)]);
            vec![("start_logits", part(0)), ("end_logits", part(1)), ("encoder_last_hidden_state", vectors)]
        })?;
        Ok(vec![forward])
    }
}

/// Tokens `i32[b, e]` one place to the right.
fn shifted(ids: &Value, shift: Shift) -> Value {
    let behind = ids.pad(1, 1, 0).slice(1, 0, ids.dim(1));
    let first = match shift {
        Shift::Start(token) => ids.constant(token.into()),
        Shift::LastBefore(pad) => {
            let is_real = ids.binary(BinaryOp::Ne, &ids.constant(pad.into())).cast(DType::F32);
            let count = is_real.reduce(ReduceKind::Sum, &[1]).cast(DType::I32);
            let last = (&count - 1.0).binary(BinaryOp::Max, &count.constant(0.0)).reshape([ids.dim(0)]);
            ids.apply(Gather { axis: 1, batch: Some(1) }, &[&last]).reshape([ids.dim(0), Dim::from(1)])
        }
    };
    let place = ids.builder().iota([ids.dim(1)], 0);
    place.binary(BinaryOp::Eq, &place.constant(0.0)).select(&first, &behind)
}

/// The last place of each row whose token compares so with another, `i32[b]`; 0 if there is none.
pub(super) fn last_place(ids: &Value, comparison: BinaryOp, token: u32) -> Value {
    let is_meant = ids.binary(comparison, &ids.constant(token.into()));
    let place = ids.builder().iota([ids.dim(0), ids.dim(1)], 1) * is_meant.cast(DType::I32);
    place.reduce(ReduceKind::Max, &[1]).reshape([ids.dim(0)])
}
