//! The vocabulary that architectures are written in: names and tensors ([`ModelBuilder`],
//! [`Inventory`], [`Size`]), parts of layers ([`LinearKind`], [`Norm`], [`Attention`], [`Mlp`],
//! [`GatedMlp`], [`Experts`], [`Rotary`], [`Mixer`]), whole layers ([`Layer`]) and whole models ([`Embedding`], [`Decoder`],
//! [`Encoder`], [`EncoderDecoder`], [`Pooling`]).
//!
//! A block is a struct of what families differ in and a method of [`ModelBuilder`] that writes it as
//! plain ops. No block knows which model uses it.

mod alibi;
mod attention;
mod context;
mod convolution;
mod cross;
mod decoder;
mod dense;
mod disentangled;
pub mod distances;
mod embedding;
mod encoder;
mod encoder_decoder;
mod experts;
pub mod frequencies;
mod gated_delta;
mod griffin;
mod hyena;
mod inventory;
mod latent;
mod layer;
mod lightning;
mod mamba;
mod mamba2;
mod mamba_heads;
mod mixer;
mod mlstm;
mod pooling;
mod recurrent;
mod relative;
mod retention;
mod rotary;
mod runs;
mod rwkv4;
mod rwkv6;
mod rwkv7;
mod s4;
mod scope;
mod shared;
mod short_convolution;
mod size;
mod token_shift;

pub use alibi::Alibi;
pub use attention::{Attention, HeadNormScope, HeadNorms, Projections};
pub use context::{Context, FurtherInputs, Source, Tokens};
pub use convolution::Convolution;
pub use decoder::{Classified, Decoder, Scores, SequenceHead};
pub use dense::{Gate, GatedMlp, Layout, LinearKind, Mlp, Norm, NormWeight};
pub use disentangled::Disentangled;
pub use distances::Distances;
pub use embedding::{Embedding, Positions, TokenTypes};
pub use encoder::{Classifier, Encoder, Heads, MaskedHead, Stack, Transform};
pub use encoder_decoder::{EncoderDecoder, Half, Shift};
pub use experts::{ExpertGroups, ExpertLatent, ExpertTensors, Experts, Gating, Router, RouterScores, SharedExpert};
pub use gated_delta::{DeltaLayers, GatedDelta};
pub use griffin::Griffin;
pub use hyena::{Filter, Hyena};
pub use inventory::{Inventory, SameValues, TensorError};
pub use latent::{Latent, yarn_score_scale};
pub use layer::{Cross, FeedForward, Layer, NamedNorm};
pub use lightning::Lightning;
pub use mamba::{InnerNorms, Mamba};
pub use mamba2::{Factors, GatedNorm, Mamba2};
pub use mixer::{Branch, Mixer};
pub use mlstm::Mlstm;
pub use pooling::{Pooling, PoolingLayer, PoolingMode};
pub use relative::{FARTHEST, RelativeBias};
pub use retention::{FeatureMap, HeadDecay, Retention};
pub use rotary::{DynamicNtk, Growth, Rotary, RotaryTables};
pub use rwkv4::Rwkv4;
pub use rwkv6::{Decay, MixTensors, Mixes, Rwkv6};
pub use rwkv7::{Rwkv7, UnitLength};
pub use s4::{Matrix, Positive, S4, Stored};
pub use scope::ModelBuilder;
pub use shared::{Adapters, Shared};
pub use short_convolution::ShortConvolution;
pub use size::Size;
pub use token_shift::{ChannelMix, LowRank, LowRankTensors, Mix, MixTensor};
