//! Attention and a perceptron that several places of a model share, each before a mixer of its own
//! (Zamba, arXiv:2405.16712, arXiv:2411.15242).

use castiron_ir::Value;

use super::{Attention, GatedMlp, LinearKind, Mixer, ModelBuilder, NamedNorm, Size};

/// A mixer, and layers shared with other places that add to what it reads. These read the token's embedding beside
/// the vector of the layer before.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// Full name of the shared layers' scope.
    pub scope: String,
    /// Of the shared layers; it reads vectors twice as wide as it gives.
    pub attention: (&'static str, Attention),
    /// Of the shared layers.
    pub feed_forward: (&'static str, GatedMlp),
    /// Before attention and before the perceptron.
    pub norms: [NamedNorm; 2],
    /// What this place adds to the shared weights.
    pub adapters: Option<Adapters>,
    /// Layer of this place after the shared ones.
    pub output: &'static str,
    /// Scope of this place's own mixer and its norm.
    pub own: &'static str,
    /// Before this place's own mixer.
    pub norm: NamedNorm,
    /// This place's own mixer.
    pub mixer: (&'static str, Mixer),
}

/// Products of two narrow matrices, stored as `NAME.{number}.0` and `NAME.{number}.1`, that are added to shared ones
/// (LoRA, arXiv:2106.09685).
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters {
    /// Number of the place among those that the shared layers serve.
    pub number: usize,
    /// Width between the two matrices.
    pub rank: Size,
    /// Names of those of queries, keys and values, which are as wide as all heads.
    pub projections: Option<[&'static str; 3]>,
    /// Name of that of gate and input, whose layer is one.
    pub gate: &'static str,
}

impl ModelBuilder<'_> {
    /// What a mixer with shared layers before it makes of `x: [b, s, n]`, without a norm before.
    pub(super) fn shared(&self, x: &Value, shared: &Shared) -> Option<Value> {
        let m = &self.root().scope(&shared.scope);
        let Some(embedded) = &self.context.embedded else {
            self.builder.fail("shared", "there are no embeddings to read again".to_owned());
            return None;
        };
        let [before, between] = &shared.norms;
        let both = self.builder.concat(2, &[x, embedded]);
        let mixed = m.shared_attention(&m.norm(before.0, &both, &before.1), shared);
        let fed = m.shared_perceptron(&m.norm(between.0, &mixed, &between.1), shared);
        let width = &shared.attention.1.width;
        let given = self.linear(shared.output, &fed, [width, width], LinearKind::PLAIN);
        let own = self.scope(shared.own);
        own.mixer(&shared.mixer, &own.norm(shared.norm.0, &(x + given), &shared.norm.1))
    }

    fn shared_attention(&self, x: &Value, shared: &Shared) -> Value {
        let (name, attention) = &shared.attention;
        let m = self.scope(name);
        let reads = Attention { width: &attention.width * 2, ..attention.clone() };
        let (mut heads, _) = m.projections(x, &reads);
        if let Some(Adapters { projections: Some(names), .. }) = &shared.adapters {
            let (inner, mut names) = (&attention.heads * &attention.head_dim, names.iter());
            heads = heads.map(|given| {
                let name = names.next().expect("a name for each of queries, keys and values");
                &given + m.adapter(name, x, [&reads.width, &inner], shared).reshape(given.ty().shape)
            });
        }
        let [q, k, v] = heads;
        let [q, k] = m.rotated([q, k], attention);
        m.output(&m.mixed_heads([&q, &k, &v], attention), attention)
    }

    fn shared_perceptron(&self, x: &Value, shared: &Shared) -> Value {
        let (name, mlp) = &shared.feed_forward;
        let Some(Adapters { gate, .. }) = &shared.adapters else { return self.gated_mlp(name, x, mlp) };
        let (m, n) = (self.scope(name), mlp.inner.value());
        let adapted = m.adapter(gate, x, [&mlp.width, &(&mlp.inner * 2)], shared);
        m.adapted_mlp(x, mlp, &[adapted.slice(2, 0, n), adapted.slice(2, n, 2 * n)])
    }

    /// `x·A·B` for a place.
    fn adapter(&self, name: &str, x: &Value, [input, output]: [&Size; 2], shared: &Shared) -> Value {
        let Some(Adapters { number, rank, .. }) = &shared.adapters else { return x.clone() };
        let m = self.scope(&format!("{name}.{number}"));
        let narrow = m.linear("0", x, [input, rank], LinearKind::PLAIN);
        m.linear("1", &narrow, [rank, output], LinearKind::PLAIN)
    }
}
