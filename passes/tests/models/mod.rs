//! Model entries as a frontend would write them, small in width and real in form.

use castiron_ir::op::fused::FusedOp;
use castiron_ir::op::{Attention, Norm, NormKind, Rope, UnaryOp};
use castiron_ir::{Builder, DType, Dim, Entry, Module, OpDef, Region, State, Type, Value};

/// A decoder step with a KV cache: RMS norms, rotary positions, grouped heads, SwiGLU.
pub fn llama() -> Module {
    let (hidden, heads, groups, width, inner, layers) = (24, 6, 2, 4, 40, 3);
    let b = Builder::new();
    let ids = b.argument("ids", Type::i32(["b", "s"]));
    let past = b.argument("past", Type::i32(["b"]));
    let x = b.param("embed.weight", [97, hidden]).gather(0, &ids);
    let (cos, sin) = rotary_tables(&b, &past, width);
    let cache = Type::f32([Dim::symbol("b"), groups.into(), "c".into(), width.into()]);
    let linear = |x: &Value, name: &str, n: usize, k: usize| x.linear(&x.builder().param(name, [n, k]));
    let layer = |b: &Builder, arguments: &[Value]| {
        let [x, cos, sin, past] = arguments else { unreachable!("four operands") };
        let normal = norm(x, &b.param("layers.{i}.attn_norm.weight", [hidden]), None, NormKind::Rms);
        let split = |v: Value, shape: &[usize]| {
            let shape: Vec<Dim> = shape.iter().map(|&n| n.into()).collect();
            v.reshape([x.dim(0), x.dim(1)].into_iter().chain(shape))
        };
        let q = split(linear(&normal, "layers.{i}.q.weight", hidden, hidden), &[heads, width]);
        let k = split(linear(&normal, "layers.{i}.k.weight", groups * width, hidden), &[groups, width]);
        let v = split(linear(&normal, "layers.{i}.v.weight", groups * width, hidden), &[groups, width]);
        let rope = |v: &Value| expand(&Rope { interleaved: false }, &[v, cos, sin]);
        let q = rope(&q).reshape([x.dim(0), x.dim(1), groups.into(), (heads / groups).into(), width.into()]);
        let q = q.transpose(&[0, 2, 3, 1, 4]);
        let k = b.state_update("layers.{i}.key", cache.clone(), 2, &rope(&k).transpose(&[0, 2, 1, 3]), past);
        let v = b.state_update("layers.{i}.value", cache.clone(), 2, &v.transpose(&[0, 2, 1, 3]), past);
        let mixed = expand(&attention(width, true), &[&q, &k, &v, past]);
        let mixed = mixed.transpose(&[0, 3, 1, 2, 4]).reshape([x.dim(0), x.dim(1), hidden.into()]);
        let x = x + linear(&mixed, "layers.{i}.o.weight", hidden, hidden);
        let normal = norm(&x, &b.param("layers.{i}.mlp_norm.weight", [hidden]), None, NormKind::Rms);
        let gate = linear(&normal, "layers.{i}.gate.weight", inner, hidden).unary(UnaryOp::Silu);
        let up = linear(&normal, "layers.{i}.up.weight", inner, hidden);
        vec![&x + linear(&(gate * up), "layers.{i}.down.weight", hidden, inner)]
    };
    let x = b.repeat(layers, "i", &[&x], &[&cos, &sin, &past], layer).swap_remove(0);
    let x = norm(&x, &b.param("norm.weight", [hidden]), None, NormKind::Rms);
    let last = x.slice(1, Dim::symbol("s") - Dim::from(1), "s");
    let logits = linear(&last, "embed.weight", 97, hidden);
    let body = b.finish(&[&logits]).unwrap();
    let state = |name: &str| State { name: format!("layers.{{i}}.{name}"), instances: Some(layers), ty: cache.clone() };
    module("step", vec![state("key"), state("value")], "logits", body)
}

/// An encoder: embeddings, layer norms after each block, biases, a padding mask, GELU.
pub fn bert() -> Module {
    let (hidden, heads, width, inner, layers) = (24, 4, 6, 40, 2);
    let b = Builder::new();
    let ids = b.argument("input_ids", Type::i32(["b", "s"]));
    let mask = b.argument("attention_mask", Type::i32(["b", "s"]));
    let types = b.argument("token_type_ids", Type::i32(["b", "s"]));
    let affine = |x: &Value, name: &str, n: usize| {
        let param = |suffix: &str| x.builder().param(format!("{name}.{suffix}"), [n]);
        norm(x, &param("weight"), Some(&param("bias")), NormKind::Layer)
    };
    let linear = |x: &Value, name: &str, n: usize, k: usize| {
        let param =
            |suffix: &str, shape: &[usize]| x.builder().param(format!("{name}.{suffix}"), shape.iter().copied());
        x.linear(&param("weight", &[n, k])) + param("bias", &[n])
    };
    let positions = b.iota(["s"], 0);
    let word = b.param("word.weight", [97, hidden]).gather(0, &ids);
    let kind = b.param("type.weight", [2, hidden]).gather(0, &types);
    let position = b.param("position.weight", [64, hidden]).gather(0, &positions);
    let x = affine(&(word + kind + position), "embed_norm", hidden);
    let mask = mask.cast(DType::Bool);
    let layer = |_: &Builder, arguments: &[Value]| {
        let [x, mask] = arguments else { unreachable!("two operands") };
        let split = |name: &str| {
            let v = linear(x, &format!("layers.{{i}}.{name}"), hidden, hidden);
            v.reshape([x.dim(0), x.dim(1), heads.into(), width.into()]).transpose(&[0, 2, 1, 3])
        };
        let q = split("query").reshape([x.dim(0), heads.into(), 1.into(), x.dim(1), width.into()]);
        let attention = Attention { causal: false, past: false, mask: true, ..attention(width, false) };
        let mixed = expand(&attention, &[&q, &split("key"), &split("value"), mask]);
        let mixed = mixed.transpose(&[0, 3, 1, 2, 4]).reshape([x.dim(0), x.dim(1), hidden.into()]);
        let x = affine(&(linear(&mixed, "layers.{i}.output", hidden, hidden) + x), "layers.{i}.norm1", hidden);
        let h = linear(&x, "layers.{i}.intermediate", inner, hidden).unary(UnaryOp::Gelu);
        vec![affine(&(linear(&h, "layers.{i}.down", hidden, inner) + &x), "layers.{i}.norm2", hidden)]
    };
    let x = b.repeat(layers, "i", &[&x], &[&mask], layer).swap_remove(0);
    let body = b.finish(&[&x]).unwrap();
    module("forward", vec![], "last_hidden_state", body)
}

fn module(name: &str, states: Vec<State>, output: &str, body: Region) -> Module {
    Module { entries: vec![Entry { name: name.to_owned(), states, outputs: vec![output.to_owned()], body }] }
}

fn attention(width: usize, past: bool) -> Attention {
    let scale = 1.0 / (width as f64).sqrt();
    Attention {
        scale,
        soft_cap: None,
        causal: true,
        window: None,
        scales: false,
        past,
        mask: false,
        bias: false,
        sinks: false,
    }
}

fn norm(x: &Value, weight: &Value, bias: Option<&Value>, kind: NormKind) -> Value {
    let operands: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
    expand(&Norm { kind, eps: 1e-5 }, &operands)
}

fn expand(op: &(impl FusedOp + OpDef), operands: &[&Value]) -> Value {
    let operands: Vec<Value> = operands.iter().map(|&v| v.clone()).collect();
    op.expand(&operands).unwrap().swap_remove(0)
}

/// Cosine and sine of `position · 10000^(-2j/width)`, shaped for `[b, s, heads, width]`.
fn rotary_tables(b: &Builder, past: &Value, width: usize) -> (Value, Value) {
    let one = || Dim::from(1);
    let position = past.reshape([past.dim(0), one()]) + b.iota(["s"], 0);
    let position = position.cast(DType::F32).reshape([past.dim(0), "s".into(), one(), one()]);
    let frequencies = (0..width / 2).map(|j| 10000f64.powf(-2.0 * j as f64 / width as f64)).collect();
    let angle = position * b.vector(frequencies);
    (angle.unary(UnaryOp::Cos), angle.unary(UnaryOp::Sin))
}
