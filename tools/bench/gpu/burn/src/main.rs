//! Times a BERT-shaped encoder of random weights on burn's wgpu backend: WGSL, f32, the CPU adapter.
//!
//! Arguments: layers, hidden, heads, intermediate, vocabulary, batch, sequence, warm-up runs, runs.
//! Prints the milliseconds of each run, one a line, from token ids to the output in host memory.

use std::time::Instant;

use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, DeviceKind, Int, Tensor};

struct Encoder {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    layers: TransformerEncoder,
}

impl Encoder {
    /// `ids: [batch, sequence]` → `[batch, sequence, hidden]`.
    fn forward(&self, ids: Tensor<2, Int>, positions: Tensor<2, Int>) -> Tensor<3> {
        let words = self.words.forward(ids);
        let types = self.types.forward(positions.zeros_like());
        let x = self.norm.forward(words + self.positions.forward(positions) + types);
        self.layers.forward(TransformerEncoderInput::new(x))
    }
}

fn main() {
    let numbers: Vec<usize> =
        std::env::args().skip(1).map(|word| word.parse().expect("arguments are numbers")).collect();
    let &[layers, hidden, heads, intermediate, vocabulary, batch, sequence, warm_up, runs] = numbers.as_slice() else {
        panic!("nine numbers are needed");
    };
    let device = Device::wgpu(DeviceKind::Cpu);
    let encoder = Encoder {
        words: EmbeddingConfig::new(vocabulary, hidden).init(&device),
        positions: EmbeddingConfig::new(512, hidden).init(&device),
        types: EmbeddingConfig::new(2, hidden).init(&device),
        norm: LayerNormConfig::new(hidden).init(&device),
        layers: TransformerEncoderConfig::new(hidden, intermediate, heads, layers).with_dropout(0.0).init(&device),
    };
    for run in 0..warm_up + runs {
        let start = Instant::now();
        let positions =
            Tensor::<1, Int>::arange(0..sequence as i64, &device).reshape([1, sequence]).repeat_dim(0, batch);
        let ids = positions.clone().remainder_scalar(29).add_scalar(3);
        let output = encoder.forward(ids, positions).into_data();
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        assert_eq!(output.num_elements(), batch * sequence * hidden);
        if run >= warm_up {
            println!("{milliseconds}");
        }
    }
}
