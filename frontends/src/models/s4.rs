//! S4 and S4D: sequences of vectors through state spaces, to one vector of scores.
//! Sources: arXiv:2111.00396, arXiv:2206.11893; state-spaces `s4`, `example.py`, `models/s4`.

use castiron_ir::{Entry, Type};

use super::ModelError;
use super::family::{Built, Family, Head, Request};
use crate::blocks::{LinearKind, Matrix, ModelBuilder, Norm, Positive, S4, Size, Stored};
use crate::config::{ConfigError, ConfigReader};

pub(super) const FAMILY: Family = Family { model_type: "s4", architectures: &[("S4Model", Head::None)], build };

/// Epsilon of PyTorch's norms.
const EPS: f64 = 1e-5;

/// Keys that say how weights begin, how the model is trained, or how the reference computes.
const OF_TRAINING: &[&str] = &[
    "backend",
    "deterministic",
    "dropout",
    "dt_max",
    "dt_min",
    "init",
    "lr",
    "tie_dropout",
    "transposed",
    "verbose",
    "wd",
];

fn build(request: &Request<'_>) -> Result<Built, ModelError> {
    let config = request.config;
    config.disregard(OF_TRAINING);
    let extents = ["d_input", "d_output", "d_model"].map(|key| config.extent(key));
    let [input, output, width] = extents;
    let (input, output, width) = (input?, output?, width?);
    let (layers, prenorm) = (config.layers("n_layers")?, config.flag("prenorm", false)?);
    let s4 = read(config, &width)?;
    let forward: Entry = ModelBuilder::entry("forward", request.tensors, |m| {
        let x = m.input("x", Type::f32(["b".into(), "s".into(), castiron_ir::Dim::from(input.value())]));
        let mut x = m.linear("encoder", &x, [&input, &width], LinearKind::BIASED);
        for layer in 0..layers {
            let norm = |x: &_| m.norm(&format!("norms.{layer}"), x, &Norm::layer(&width, EPS));
            let mixed = |x: &_| m.scope(&format!("s4_layers.{layer}")).s4(x, &s4);
            x = if prenorm { &x + mixed(&norm(&x)) } else { norm(&(&x + mixed(&x))) };
        }
        vec![("logits", m.linear("decoder", &m.mean(&x), [&width, &output], LinearKind::BIASED))]
    })?;
    request.tensors.check(&[])?;
    Ok(Built { entries: vec![forward], max_positions: None, recompute_beyond: None })
}

fn read(config: &ConfigReader<'_>, width: &Size) -> Result<S4, ModelError> {
    let states = config.size("d_state")?.unwrap_or(64);
    if states % 2 == 1 {
        return Err(config.invalid("d_state", "an even number: conjugates are implied").into());
    }
    let state = Size::new(states / 2, "d_state / 2");
    let minimal = S4 {
        width: width.clone(),
        state,
        kernels: Size::new(1, "channels"),
        stored: Stored::Minimal,
        bidirectional: false,
        longest: None,
        activation: castiron_ir::op::UnaryOp::Gelu,
    };
    match config.text("layer")? {
        Some("S4D") => return Ok(minimal),
        None | Some("S4Block") => {}
        Some(_) => return Err(config.invalid("layer", "S4Block or S4D").into()),
    }
    if config.text("final_act")?.is_some_and(|name| name != "glu") {
        return Err(config.invalid("final_act", "glu, as others are not implemented").into());
    }
    Ok(S4 {
        kernels: Size::new(config.size("channels")?.unwrap_or(1), "channels"),
        bidirectional: config.flag("bidirectional", false)?,
        longest: config.size("l_max")?,
        activation: config.activation("activation", "gelu")?,
        stored: block(config, width)?,
        ..minimal
    })
}

fn block(config: &ConfigReader<'_>, width: &Size) -> Result<Stored, ConfigError> {
    let spaces = Size::new(config.size("n_ssm")?.unwrap_or(width.value()), "n_ssm");
    if !width.value().is_multiple_of(spaces.value()) {
        return Err(config.invalid("n_ssm", "a divisor of d_model"));
    }
    let transform = |key: &str, default: &'static str| match config.text(key)?.unwrap_or(default) {
        "exp" => Ok(Positive::Exp),
        "none" => Ok(Positive::None),
        "relu" => Ok(Positive::Relu),
        "sigmoid" => Ok(Positive::Sigmoid),
        "softplus" => Ok(Positive::Softplus),
        _ => Err(config.invalid(key, "exp, none, relu, sigmoid or softplus")),
    };
    let disc = config.text("disc")?.unwrap_or("zoh");
    let matrix = match (config.text("mode")?.unwrap_or("dplr"), disc) {
        ("dplr" | "nplr" | "s4", _) => Matrix::LowRank(Size::new(config.size("rank")?.unwrap_or(1), "rank")),
        ("diag" | "s4d", "zoh" | "bilinear") => {
            config.disregard(&["rank"]);
            Matrix::Diagonal { bilinear: disc == "bilinear" }
        }
        ("diag" | "s4d", _) => return Err(config.invalid("disc", "zoh or bilinear")),
        _ => return Err(config.invalid("mode", "dplr or diag")),
    };
    let transforms = [("dt_transform", "exp"), ("real_transform", "exp"), ("imag_transform", "none")];
    let [dt, re, im] = transforms.map(|(key, default)| transform(key, default));
    Ok(Stored::Block { spaces, ties_steps: config.flag("dt_tie", true)?, transforms: [dt?, re?, im?], matrix })
}
