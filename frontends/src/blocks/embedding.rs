//! From token ids to the vectors that the first layer sees.

use castiron_ir::op::{BinaryOp, Constant, Dot, UnaryOp};
use castiron_ir::{DType, Dim, Type, Value};

use super::{LinearKind, ModelBuilder, NamedNorm, Size, Tokens};

/// Learned vectors of positions.
#[derive(Clone, Debug)]
pub struct Positions {
    /// Name of the table, with its `weight`.
    pub table: &'static str,
    /// Rows of the table.
    pub rows: Size,
    /// Row of the first position.
    pub offset: usize,
    /// Whether padding is not counted, rather than every token of a row.
    pub skip_padding: bool,
}

/// Learned vectors of token types, which an entry reads as `token_type_ids`.
#[derive(Clone, Debug)]
pub struct TokenTypes {
    /// Name of the table, with its `weight`.
    pub table: &'static str,
    /// Rows of the table.
    pub rows: Size,
}

/// Token embeddings and what is done to them before the first layer. Names are relative to the model's.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Name of the table as a whole.
    pub table: String,
    /// Rows of the table.
    pub vocab: Size,
    /// Width of the table.
    pub width: Size,
    /// Factor of its vectors.
    pub scale: f64,
    /// A layer without bias that makes them as wide as the model, which is given.
    pub projection: Option<(&'static str, Size)>,
    /// What is added to them.
    pub positions: Option<Positions>,
    /// What else is added to them.
    pub types: Option<TokenTypes>,
    /// For how many positions sines and cosines are added to them.
    pub sinusoids: Option<Size>,
    /// Norm of the sum.
    pub norm: Option<NamedNorm>,
    /// A layer after the norm that makes vectors as wide as the model, which is given.
    pub mapping: Option<(&'static str, Size, LinearKind)>,
}

impl Embedding {
    /// A table and no more.
    pub fn plain(table: String, vocab: &Size, width: &Size) -> Embedding {
        let (vocab, width) = (vocab.clone(), width.clone());
        Embedding {
            table,
            vocab,
            width,
            scale: 1.0,
            projection: None,
            positions: None,
            types: None,
            sinusoids: None,
            norm: None,
            mapping: None,
        }
    }
}

impl ModelBuilder<'_> {
    /// Vectors `[b, s, n]` of the tokens. `prefix` is the scope of all but the table of tokens.
    pub fn embedded(&self, prefix: &str, embedding: &Embedding, tokens: &Tokens) -> Value {
        let Embedding { table, vocab, width, scale, projection, positions, types, sinusoids, norm, mapping } =
            embedding;
        let m = self.scope(prefix);
        let mut x = self.embed(table, vocab, width, &tokens.ids);
        let mut model_width = width;
        if *scale != 1.0 {
            x = x * *scale;
        }
        if let Some((name, to)) = projection {
            x = m.linear(name, &x, [width, to], LinearKind::PLAIN);
            model_width = to;
        }
        if let Some(positions) = positions {
            let at = m.positions(positions, tokens);
            x = x + m.scope(positions.table).embed("weight", &positions.rows, model_width, &at);
        }
        if let Some((types, ids)) = types.as_ref().zip(tokens.types.as_ref()) {
            x = x + m.scope(types.table).embed("weight", &types.rows, model_width, ids);
        }
        if let Some(count) = sinusoids {
            x = x + m.sinusoids(count.value(), model_width.value()).gather(0, &tokens.positions);
        }
        if let Some((name, norm)) = norm {
            x = m.norm(name, &x, norm);
        }
        match mapping {
            Some((name, to, kind)) => m.linear(name, &x, [model_width, to], *kind),
            None => x,
        }
    }

    /// Sines, then cosines, of `position · 10000^(-2k/width)`, `[count, width]` (arXiv:1706.03762): a table that is
    /// computed in f64 when the model is compiled.
    fn sinusoids(&self, count: usize, width: usize) -> Value {
        let column = |values: Vec<f64>, shape: [usize; 2]| {
            let ty = Type::new(DType::F64, [values.len()]);
            self.builder.apply(Constant { values, ty }, &[]).reshape(shape)
        };
        let positions = column((0..count).map(|p| p as f64).collect(), [count, 1]);
        let angles = |count: usize| {
            let frequency = |k: usize| 1e4_f64.powf(-((2 * k) as f64) / width as f64);
            &positions * column((0..count).map(frequency).collect(), [1, count])
        };
        let (sines, cosines) = (angles(width.div_ceil(2)).unary(UnaryOp::Sin), angles(width / 2).unary(UnaryOp::Cos));
        self.builder.concat(1, &[&sines, &cosines]).cast(DType::F32)
    }

    fn positions(&self, positions: &Positions, tokens: &Tokens) -> Value {
        let at = match &self.context.mask {
            Some(mask) if positions.skip_padding => {
                let count = running_count(mask);
                // Padding stands before the first position.
                (&count * mask.cast(DType::I32)) - 1.0
            }
            _ => tokens.positions.clone(),
        };
        if positions.offset == 0 { at } else { at + positions.offset as f64 }
    }
}

/// How many truths of a row stand up to each place: `bool[b, s]` → `i32[b, s]`.
pub(super) fn running_count(mask: &Value) -> Value {
    let s = mask.dim(1);
    let row = mask.builder().iota([s.clone(), Dim::from(1)], 0);
    let column = mask.builder().iota([s], 0);
    let is_before = row.binary(BinaryOp::Le, &column).cast(DType::F32);
    let sum = Dot { batch: vec![], contract: vec![(1, 0)] };
    mask.cast(DType::F32).apply(sum, &[&is_before]).cast(DType::I32)
}
