//! What every layer of a pass sees, and how an entry reads the sequence.

use std::cell::OnceCell;
use std::rc::Rc;

use castiron_ir::op::{BinaryOp, Extent};
use castiron_ir::{Builder, DType, Dim, Type, Value};

use super::{ModelBuilder, RotaryTables};

/// Values that all layers share; a layer takes what concerns it.
#[derive(Clone, Default)]
pub struct Context {
    /// `bool[b,s]`: the tokens that are no padding. No token attends to the others.
    pub mask: Option<Value>,
    /// `i32[b]`: how many positions are cached. Where it is set, attention keeps a cache.
    pub past: Option<Value>,
    /// What each row's own tokens are, where layers remember all that they read.
    pub own: Option<Own>,
    /// Rotation angles of queries and keys; an attention says which table it takes.
    pub rotary: Vec<RotaryTables>,
    /// Added to the scores of every self-attention: broadcasts to `[b, g, r, s, t]`.
    pub bias: Option<Value>,
    /// Rows of a table of relative positions, `i32[2s]`, for keys before and after a query.
    pub distances: Option<[Value; 2]>,
    /// How far keys are from queries, as rows of a table of biases: `i32[1,s,t]` or `i32[b,s,t]`.
    pub relative: Option<Value>,
    /// What the first layer reads, `[b,s,n]`, for layers that read it again.
    pub embedded: Option<Value>,
    /// What cross-attention sees.
    pub source: Option<Source>,
    /// What the first layer leaves to all others; it stands before any loop.
    pub(super) of_first: Rc<OnceCell<Value>>,
}

/// The tokens of a continuation that are each row's own. What follows them is padding.
#[derive(Clone)]
pub struct Own {
    /// `i32[b]`: how many they are.
    pub count: Value,
    /// `f32[b,s]`: ones for them, zeros for padding.
    pub real: Value,
    /// `bool[b]`: whether a row has begun before.
    pub goes_on: Value,
}

impl Own {
    fn new(builder: &Builder, count: Value, past: &Value) -> Own {
        let place = builder.iota([Dim::from(1), Dim::symbol("s")], 1);
        let real = place.binary(BinaryOp::Lt, &count.reshape([count.dim(0), Dim::from(1)])).cast(DType::F32);
        Own { count, real, goes_on: past.binary(BinaryOp::Gt, &past.constant(0.0)) }
    }
}

/// The sequence that an encoder has read.
#[derive(Clone)]
pub struct Source {
    /// Vectors of its tokens, `[b,e,n]`. Where they are not given, attention takes the keys and values that
    /// the entry `encode` has kept.
    pub vectors: Option<Value>,
    /// `bool[b,e]`: the tokens that are no padding.
    pub mask: Value,
}

impl Context {
    /// The values in a fixed order.
    pub(super) fn values(&self) -> Vec<&Value> {
        let rotary = self.rotary.iter().flat_map(|r| [&r.cos, &r.sin]);
        let source = self.source.iter().flat_map(|s| s.vectors.iter().chain([&s.mask]));
        self.mask
            .iter()
            .chain(&self.past)
            .chain(self.own.iter().flat_map(|own| [&own.count, &own.real, &own.goes_on]))
            .chain(&self.bias)
            .chain(self.distances.iter().flatten())
            .chain(&self.relative)
            .chain(&self.embedded)
            .chain(rotary)
            .chain(source)
            .chain(self.of_first.get())
            .collect()
    }

    /// The same context with its values, in that order, replaced.
    pub(super) fn rebound(&self, values: &[Value]) -> Context {
        let mut values = values.iter().cloned();
        let mut next = |old: &Value| values.next().unwrap_or_else(|| old.clone());
        Context {
            mask: self.mask.as_ref().map(&mut next),
            past: self.past.as_ref().map(&mut next),
            own: self.own.as_ref().map(|own| Own {
                count: next(&own.count),
                real: next(&own.real),
                goes_on: next(&own.goes_on),
            }),
            bias: self.bias.as_ref().map(&mut next),
            distances: self.distances.as_ref().map(|rows| rows.each_ref().map(&mut next)),
            relative: self.relative.as_ref().map(&mut next),
            embedded: self.embedded.as_ref().map(&mut next),
            rotary: self.rotary.iter().map(|t| RotaryTables { cos: next(&t.cos), sin: next(&t.sin), ..*t }).collect(),
            source: self
                .source
                .as_ref()
                .map(|s| Source { vectors: s.vectors.as_ref().map(&mut next), mask: next(&s.mask) }),
            of_first: Rc::new(self.of_first.get().map(&mut next).map_or_else(OnceCell::new, OnceCell::from)),
        }
    }
}

/// The tokens of a pass and where they stand.
pub struct Tokens {
    /// `i32[b,s]`
    pub ids: Value,
    /// Positions `i32[1,s]` or, when they differ from row to row, `i32[b,s]`.
    pub positions: Value,
    /// Tokens that each row has, `i32[b]`, or that all have, `i32[1]`. Of a prompt that is read in pieces, all
    /// are meant.
    pub length: Value,
    /// Types `i32[b,s]`, of models that tell texts of a pair apart.
    pub types: Option<Value>,
}

/// What the entry `step` of some models takes besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct FurtherInputs {
    /// `length`: the length of each row when all its tokens have been read, for what depends on it, so that a
    /// prompt in pieces is read as a whole would be.
    pub length: bool,
    /// `count`: how many of the tokens are each row's own, perhaps none, for what remembers all that it reads.
    pub count: bool,
}

impl ModelBuilder<'_> {
    /// Reads a whole sequence: inputs `input_ids` and `attention_mask`. Positions count from 0
    /// whatever is padding, as in transformers' `forward`.
    pub fn whole_sequence(&self) -> (Self, Tokens) {
        let ids = self.input("input_ids", Type::i32(["b", "s"]));
        let mask = self.input("attention_mask", Type::i32(["b", "s"]));
        self.sequence_of(ids, &mask)
    }

    /// Takes tokens `i32[b,s]` as a whole sequence, whose mask is an input.
    pub(super) fn masked_sequence(&self, ids: Value, mask: &str) -> (Self, Tokens) {
        let mask = self.input(mask, ids.ty());
        self.sequence_of(ids, &mask)
    }

    /// Whole sequences given as token numbers and mask, both `i32[b,s]`.
    pub(super) fn sequence_of(&self, ids: Value, mask: &Value) -> (Self, Tokens) {
        let mask = mask.binary(BinaryOp::Ne, &mask.constant(0.0));
        let context = Context { mask: Some(mask), ..self.context.clone() };
        (self.with_context(context), self.tokens(ids))
    }

    /// Takes tokens `i32[b,s]` as a whole sequence.
    pub(super) fn tokens(&self, ids: Value) -> Tokens {
        let positions = self.builder.iota([Dim::from(1), ids.dim(1)], 1);
        let length = self.builder.apply(Extent { of: ids.dim(1) }, &[]).reshape([Dim::from(1)]);
        Tokens { ids, positions, length, types: None }
    }

    /// Reads the continuation of what is cached: inputs `input_ids`; `past`, the number of positions that
    /// each row has cached; and `last`, which of its tokens is each row's last, also given as a value.
    /// There is no mask: rows are padded on the right, `past` advances by their true lengths, and
    /// what padding has written is overwritten before it is seen. Some models have further inputs.
    pub fn next_tokens(&self, further: FurtherInputs) -> (Self, Tokens, Value) {
        let ids = self.input("input_ids", Type::i32(["b", "s"]));
        let past = self.input("past", Type::i32(["b"]));
        let last = self.input("last", Type::i32(["b"]));
        let offsets = self.builder.iota([Dim::from(1), Dim::symbol("s")], 1);
        let positions = past.reshape([Dim::symbol("b"), Dim::from(1)]) + offsets;
        let length = if further.length { self.input("length", Type::i32(["b"])) } else { &past + &last + 1.0 };
        let own = further.count.then(|| Own::new(&self.builder, self.input("count", Type::i32(["b"])), &past));
        let context = Context { past: Some(past), own, ..self.context.clone() };
        (self.with_context(context), Tokens { ids, positions, length, types: None }, last)
    }

    /// Ones where a token is no padding, `f32[b,s,1]`; nothing when there is no mask.
    pub(super) fn mask_weights(&self) -> Option<Value> {
        let mask = self.context.mask.as_ref()?;
        Some(mask.cast(DType::F32).reshape([mask.dim(0), mask.dim(1), Dim::from(1)]))
    }
}
