//! castiron's frontends: checkpoint folders in, graphs of plain ops out.
//!
//! [`checkpoint`] reads what a folder holds, [`config`] reads its `config.json` key by key, [`models`]
//! has one file for each architecture, written in the vocabulary of [`blocks`].

pub mod blocks;
pub mod checkpoint;
pub mod config;
pub mod models;
