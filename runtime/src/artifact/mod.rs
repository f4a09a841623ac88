//! Artifacts: valid safetensors files of byte tensors.

pub mod format;
