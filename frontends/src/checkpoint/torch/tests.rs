//! Pickles by hand, good and bad ones.

use super::*;

/// The pickle `{"w": Tensor(storage "0" of 6 f32, offset 1, shape, strides)}`.
fn pickle(offset: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let text = |text: &str| [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let pair = |[a, b]: [u8; 2]| vec![b'K', a, b'K', b, 0x86];
    let id = [
        b"(".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        b"K\x06tQ".to_vec(),
    ];
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
        id.concat(),
        vec![b'K', offset],
        pair(shape),
        pair(strides),
        b"\x89ccollections\nOrderedDict\n)RtRs.".to_vec(),
    ]
    .concat()
}

/// A file of the older format.
fn legacy(pickle: &[u8], elements: u64) -> Vec<u8> {
    let facts = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";
    let keys = b"\x80\x02]X\x01\x00\x00\x000a.";
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    [LEGACY_MAGIC, b"\x80\x02M\xe9\x03.", facts, pickle, keys, &elements.to_le_bytes(), &data].concat()
}

fn problem(pickle: &[u8]) -> String {
    tensors(&legacy(pickle, 6), 0).unwrap_err().to_string()
}

#[test]
fn a_tensor_lies_where_the_pickle_says() {
    let file = legacy(&pickle(1, [2, 2], [2, 1]), 6);
    let read = tensors(&file, 0).unwrap();
    let [span] = &read[0].1.spans()[..] else { panic!("one span") };
    assert_eq!((read[0].0.as_str(), &read[0].1.shape[..]), ("w", &[2, 2][..]));
    let values: Vec<u8> = (1..5).flat_map(|i| (i as f32).to_le_bytes()).collect();
    assert_eq!(&file[span.bytes.clone()], values);
}

#[test]
fn globals_that_do_not_rebuild_tensors_are_named() {
    for (code, name) in [
        (&b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."[..], "posix.system"),
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"cnumpy.core.multiarray\n_reconstruct\n.", "numpy.core.multiarray._reconstruct"),
    ] {
        assert_eq!(Pickle::read(code, 0).unwrap_err(), TorchError::Global(name.into()));
        assert!(problem(code).contains(&format!("`{name}`")));
    }
}

#[test]
fn tensors_outside_their_storage_are_errors() {
    assert!(problem(&pickle(3, [2, 2], [2, 1])).contains("tensor `w` of shape [2, 2]"));
    assert!(problem(&pickle(0, [2, 2], [200, 1])).contains("goes beyond its storage of 6"));
    assert!(problem(&pickle(0, [200, 200], [0, 0])).contains("goes beyond its storage of 6"));
    let long = tensors(&legacy(&pickle(0, [1, 1], [1, 1]), 7), 0).unwrap_err().to_string();
    assert_eq!(long, "storage `0` goes beyond the file");
    assert!(tensors(&legacy(&pickle(0, [1, 1], [1, 1]), u64::MAX), 0).is_err());
}

#[test]
fn pickles_that_do_not_hold_together_are_errors() {
    let cases: [&[u8]; 9] = [b"", b".", b"a.", b"(t", b"h\x00.", b"}K\x01u.", b"NNR.", b"\x8a\x09123456789.", b"\xff."];
    for code in cases {
        assert!(Pickle::read(code, 0).is_err(), "{code:?}");
    }
    let whole = pickle(0, [2, 2], [2, 1]);
    for end in 0..whole.len() {
        assert!(Pickle::read(&whole[..end], 0).is_err(), "{end}");
    }
    // Nesting costs no stack.
    let deep: Vec<u8> = [vec![b')'], vec![0x85; 1 << 20], vec![b'.']].concat();
    assert!(Pickle::read(&deep, 0).is_ok());
}

#[test]
fn archives_that_are_cut_or_compressed_are_errors() {
    assert_eq!(tensors(b"nothing", 0), Err(TorchError::Magic));
    assert!(matches!(tensors(b"PK\x03\x04", 0), Err(TorchError::Archive(_))));
    let archive = |method: CompressionMethod| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in [("m/data.pkl", pickle(0, [2, 3], [3, 1])), ("m/data/0", vec![0; 24])] {
            zip.start_file(name, options).unwrap();
            std::io::Write::write_all(&mut zip, &bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let good = archive(CompressionMethod::Stored);
    assert_eq!(tensors(&good, 0).unwrap()[0].1.shape, [2, 3]);
    let compressed = tensors(&archive(CompressionMethod::Deflated), 0).unwrap_err().to_string();
    assert!(compressed.contains("`m/data.pkl` is compressed"), "{compressed}");
    for end in 0..good.len() {
        assert!(tensors(&good[..end], 0).is_err(), "{end} of {} bytes", good.len());
    }
}
