//! ggml's block formats against the `gguf` package, bit for bit.

use std::path::Path;

use castiron_ir::BlockFormat::{self, *};
use castiron_ir::blocks;
use safetensors::SafeTensors;

const FORMATS: [(&str, BlockFormat); 23] = [
    ("Q4_0", Q4_0),
    ("Q4_1", Q4_1),
    ("Q5_0", Q5_0),
    ("Q5_1", Q5_1),
    ("Q8_0", Q8_0),
    ("Q2_K", Q2K),
    ("Q3_K", Q3K),
    ("Q4_K", Q4K),
    ("Q5_K", Q5K),
    ("Q6_K", Q6K),
    ("IQ4_NL", Iq4Nl),
    ("IQ4_XS", Iq4Xs),
    ("IQ3_S", Iq3S),
    ("IQ3_XXS", Iq3Xxs),
    ("IQ2_S", Iq2S),
    ("IQ2_XS", Iq2Xs),
    ("IQ2_XXS", Iq2Xxs),
    ("IQ1_M", Iq1M),
    ("IQ1_S", Iq1S),
    ("TQ1_0", Tq1_0),
    ("TQ2_0", Tq2_0),
    ("MXFP4", Mxfp4),
    ("NVFP4", Nvfp4),
];

#[test]
fn every_format_decodes_as_the_package_gguf_decodes_it() {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ggml_blocks.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(golden.len(), 2 * FORMATS.len(), "every format of the data is tested");
    for (name, format) in FORMATS {
        let raw = golden.tensor(&format!("{name}.raw")).unwrap();
        let expected = golden.tensor(&format!("{name}.values")).unwrap();
        let mut actual = vec![0.0; expected.shape()[0]];
        blocks::decode(format, raw.data(), &mut actual);
        assert!(actual.iter().all(|x| x.is_finite()), "{name}");
        let actual: Vec<u8> = actual.iter().flat_map(|x| x.to_le_bytes()).collect();
        let at = actual.chunks(4).zip(expected.data().chunks(4)).position(|(a, b)| a != b);
        assert_eq!(at, None, "{name}: the first element that differs");
    }
}
