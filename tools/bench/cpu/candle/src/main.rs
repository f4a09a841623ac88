//! Times candle on one job of the comparison: see `scripts/job.py` for the job and the result.

use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use candle_core::quantized::gguf_file;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let text = std::env::args().nth(1).ok_or("a job in JSON is needed")?;
    let job: Value = serde_json::from_str(&text)?;
    let path = Path::new(job["path"].as_str().ok_or("the job has no path")?);
    let runs = number(&job, "runs")?;
    let mut result = if job["kind"] == "generation" { generate(&job, path, runs)? } else { encode(&job, path, runs)? };
    result["peak_rss_mb"] = peak_rss().into();
    println!("{result}");
    Ok(())
}

/// A prompt, then one token after the other; the model's cache starts anew at position 0.
fn generate(job: &Value, path: &Path, runs: usize) -> Outcome<Value> {
    let (prompt, new) = (number(job, "prompt")?, number(job, "new")?);
    let start = Instant::now();
    let mut file = std::fs::File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let load_ms = milliseconds(start);
    let ids: Vec<u32> = ids(prompt);
    let (mut first, mut prompts, mut tokens) = (0.0, Vec::new(), Vec::new());
    for run in 0..=runs {
        let start = Instant::now();
        let mut best = best(&model.forward(&Tensor::new(ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?, 0)?)?;
        let prompt_ms = milliseconds(start);
        if run == 0 {
            first = now() * 1e3;
        }
        if run == 0 && runs == 0 {
            break;
        }
        let start = Instant::now();
        for position in prompt..prompt + new - 1 {
            let logits = model.forward(&Tensor::new(&[best], &Device::Cpu)?.unsqueeze(0)?, position)?;
            best = self::best(&logits)?;
        }
        if run > 0 {
            prompts.push(prompt_ms);
            tokens.push(milliseconds(start) / (new - 1).max(1) as f64);
        }
    }
    Ok(json!({"load_ms": load_ms, "first_at": first, "runs": {"prompt_ms": prompts, "token_ms": tokens}}))
}

/// Token ids and mask to hidden states, in f32.
fn encode(job: &Value, folder: &Path, runs: usize) -> Outcome<Value> {
    let lengths: Vec<usize> =
        job["lengths"].as_array().ok_or("no lengths")?.iter().filter_map(|n| Some(n.as_u64()? as usize)).collect();
    let (batch, longest) = (lengths.len(), lengths.iter().copied().max().ok_or("no texts")?);
    let start = Instant::now();
    let config: Config = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
    // SAFETY: nothing writes to the file while it is mapped.
    let weights = unsafe {
        VarBuilder::from_mmaped_safetensors(&[folder.join("model.safetensors")], DType::F32, &Device::Cpu)?
    };
    let model = BertModel::load(weights, &config)?;
    let load_ms = milliseconds(start);
    let ids = Tensor::from_vec(ids(batch * longest), (batch, longest), &Device::Cpu)?;
    let mask: Vec<u32> = lengths.iter().flat_map(|&n| (0..longest).map(move |i| u32::from(i < n))).collect();
    let mask = Tensor::from_vec(mask, (batch, longest), &Device::Cpu)?;
    let is_padded = lengths.iter().any(|&length| length != longest);
    let (types, mask) = (ids.zeros_like()?, is_padded.then_some(&mask));
    let (mut first, mut measured) = (0.0, Vec::new());
    for run in 0..=runs {
        let start = Instant::now();
        model.forward(&ids, &types, mask)?;
        if run > 0 {
            measured.push(milliseconds(start));
        } else {
            first = now() * 1e3;
        }
    }
    Ok(json!({"load_ms": load_ms, "first_at": first, "runs": {"batch_ms": measured}}))
}

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i % 29 + 3).collect()
}

fn best(logits: &Tensor) -> Outcome<u32> {
    Ok(logits.squeeze(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?)
}

fn number(job: &Value, key: &str) -> Outcome<usize> {
    Ok(job[key].as_u64().ok_or_else(|| format!("the job has no {key}"))? as usize)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Seconds since 1970, which the starting process measured too.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Largest resident memory of this process so far, in megabytes.
fn peak_rss() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}
