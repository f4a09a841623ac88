//! BERT: bidirectional encoder, layer norms after each block, learned positions, token types.
//! Sources: arXiv:1810.04805; transformers `models/bert/modeling_bert.py`.

use castiron_ir::op::UnaryOp;
use castiron_ir::{Type, Value};

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{Attention, FeedForward, Inventory, Layer, LinearKind, Mlp, ModelBuilder, Norm, Projections, Size};
use crate::config::ConfigReader;

pub(super) const FAMILY: Family = Family {
    model_type: "bert",
    architectures: &[
        ("BertModel", Head::None),
        ("BertForMaskedLM", Head::MaskedTokens),
        ("BertForSequenceClassification", Head::Sequence),
        ("BertForTokenClassification", Head::Tokens),
        ("BertForQuestionAnswering", Head::Span),
    ],
    build,
};

struct Bert {
    prefix: String,
    layers: Vec<Layer>,
    vocab: Size,
    positions: Size,
    types: Size,
    width: Size,
    norm: Norm,
    activation: UnaryOp,
    labels: Size,
    embedding: String,
    head: String,
    head_bias: String,
}

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let &Request { config, tensors, head, ref labels, pooling } = request;
    let model = Bert::read(config, tensors, labels)?;
    let mut entries = vec![ModelBuilder::entry("forward", tensors, |m| model.forward(m, tensors, head))?];
    if head == Head::None {
        let pooling = pooling.unwrap_or_default();
        entries.push(ModelBuilder::entry("embed", tensors, |m| {
            let (m, x) = model.encode(m);
            vec![("sentence_embedding", m.pool(&x, pooling))]
        })?);
    }
    let mut known_unused = vec!["*embeddings.position_ids"];
    match head {
        Head::None => known_unused.push("cls.*"),
        Head::MaskedTokens => known_unused.extend(["*pooler.*", "cls.seq_relationship.*", "cls.predictions.bias"]),
        _ => known_unused.push("*pooler.*"),
    }
    tensors.check(&known_unused)?;
    Ok(Built { entries, max_positions: Some(model.positions.value()) })
}

impl Bert {
    fn read(config: &ConfigReader<'_>, tensors: &Inventory<'_>, labels: &Size) -> Result<Bert, ModelError> {
        let width = config.extent("hidden_size")?;
        let heads = config.equal_heads("num_attention_heads", "hidden_size", &width)?;
        for key in ["is_decoder", "add_cross_attention"] {
            if config.flag(key, false)? {
                return Err(config.invalid(key, "false").into());
            }
        }
        if config.text("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
            return Err(config.invalid("position_embedding_type", "absolute").into());
        }
        let activation = config.activation("hidden_act", "gelu")?;
        let prefix = tensors.prefix("bert.");
        let tie = config.flag("tie_word_embeddings", true)?;
        let embedding = format!("{prefix}embeddings.word_embeddings.weight");
        let (embedding, head) = tensors.tied(&embedding, "cls.predictions.decoder.weight", tie);
        let (_, head_bias) = tensors.tied("cls.predictions.bias", "cls.predictions.decoder.bias", tie);
        let norm = Norm::layer(&width, config.positive("layer_norm_eps")?.unwrap_or(1e-12));
        let attention = Attention {
            projections: Projections::Separate(["self.query", "self.key", "self.value"]),
            linear: LinearKind::BIASED,
            output: ("output.dense", LinearKind::BIASED),
            causal: false,
            ..Attention::causal(&width, &heads.heads, &heads.head_dim)
        };
        let mlp = Mlp {
            width: width.clone(),
            inner: config.extent("intermediate_size")?,
            activation,
            layers: ["intermediate.dense", "output.dense"],
            linear: LinearKind::BIASED,
        };
        let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
        let layer = Layer::post_norm(("attention", attention), ("", FeedForward::Plain(mlp)), norms, &norm);
        Ok(Bert {
            prefix,
            layers: vec![layer; config.layers("num_hidden_layers")?],
            vocab: config.extent("vocab_size")?,
            positions: config.extent("max_position_embeddings")?,
            types: Size::new(config.size("type_vocab_size")?.unwrap_or(2), "type_vocab_size"),
            norm,
            activation,
            labels: labels.clone(),
            width,
            embedding,
            head,
            head_bias,
        })
    }

    /// Token vectors `[b, s, n]`, with the builder that knows the mask.
    fn encode<'a>(&self, m: &ModelBuilder<'a>) -> (ModelBuilder<'a>, Value) {
        let (m, tokens) = m.whole_sequence();
        let types = m.input("token_type_ids", Type::i32(["b", "s"]));
        let words = m.embed(&self.embedding, &self.vocab, &self.width, &tokens.ids);
        let e = m.scope(&self.prefix).scope("embeddings");
        let x = words
            + e.embed("token_type_embeddings.weight", &self.types, &self.width, &types)
            + e.embed("position_embeddings.weight", &self.positions, &self.width, &tokens.positions);
        let x = e.norm("LayerNorm", &x, &self.norm);
        let x = m.scope(&self.prefix).layers("encoder.layer", &self.layers, &x, |m, layer, x| m.layer(x, layer));
        (m, x)
    }

    fn forward(&self, m: &ModelBuilder<'_>, tensors: &Inventory<'_>, head: Head) -> Vec<(&'static str, Value)> {
        let (m, x) = self.encode(m);
        let pooler = |m: &ModelBuilder<'_>| m.scope(&self.prefix).pooler("pooler.dense", &x, &self.width);
        let classifier = |name: &str, x: &Value| m.linear(name, x, [&self.width, &self.labels], LinearKind::BIASED);
        match head {
            Head::MaskedTokens => vec![("logits", self.masked_tokens(&m, &x))],
            Head::Sequence => vec![("logits", classifier("classifier", &pooler(&m)))],
            Head::Tokens => vec![("logits", classifier("classifier", &x))],
            Head::Span => {
                let scores = classifier("qa_outputs", &x);
                let part = |at: usize| scores.slice(2, at, at + 1).reshape([x.dim(0), x.dim(1)]);
                vec![("start_logits", part(0)), ("end_logits", part(1))]
            }
            _ => {
                let has_pooler = tensors.has(&format!("{}pooler.dense.weight", self.prefix));
                let pooled = has_pooler.then(|| ("pooler_output", pooler(&m)));
                std::iter::once(("last_hidden_state", x.clone())).chain(pooled).collect()
            }
        }
    }

    /// Scores of every token of the vocabulary, `[b, s, vocab]`.
    fn masked_tokens(&self, m: &ModelBuilder<'_>, x: &Value) -> Value {
        let head = m.scope("cls.predictions");
        let x =
            head.linear("transform.dense", x, [&self.width, &self.width], LinearKind::BIASED).unary(self.activation);
        let x = head.norm("transform.LayerNorm", &x, &self.norm);
        x.linear(&m.param(&self.head, &[&self.vocab, &self.width])) + m.param(&self.head_bias, &[&self.vocab])
    }
}
