//! GGUFs with something wrong in them, before every verb that reads one.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::args;
use crate::bytes::GgufBytes;
use crate::workplace::Workplace;

/// Every verb that reads a GGUF, on `file`.
fn verbs(place: &Workplace, file: &Path) -> [Vec<OsString>; 6] {
    let texts = place.write("texts.txt", "some text\n");
    let pairs = place.write("pairs.tsv", "1\ta\tb\n2\tc\td\n3\te\tf\n");
    [
        args!["convert", file, "--preset", "q8_0", "-o", place.path("out.gguf")],
        args!["inspect", file],
        args!["bench", file],
        args!["imatrix", file, "--input", texts, "-o", place.path("out.imatrix")],
        args!["embed", file, "--input", texts, "--output", place.path("out.jsonl")],
        args!["eval", file, "--dataset", pairs, "--report", place.path("out.json")],
    ]
}

#[test]
fn files_that_are_cut_or_something_else() {
    let (place, model) = Workplace::with_gguf("f16");
    let whole = fs::read(&model).unwrap();
    let cases: [(&[u8], &str); 5] = [
        (&whole[..whole.len() - 1], "data ends at byte"),
        (&whole[..whole.len() / 2], "data ends at byte"),
        (&whole[..4000], "truncated at byte"),
        (&whole[..20], "truncated at byte 16"),
        (b"", "empty file"),
    ];
    for (bytes, expected) in cases {
        let file = place.write("bad.gguf", bytes);
        for args in verbs(&place, &file) {
            place.refused(args, 3, &["bad.gguf: ", expected]);
        }
    }
    let file = place.path("nowhere.gguf");
    for args in verbs(&place, &file) {
        place.refused(args, 4, &["nowhere.gguf: No such file or directory"]);
    }
}

#[test]
fn headers_that_lie() {
    let place = Workplace::new();
    let cases = [
        (GgufBytes(b"GGUF".to_vec()).u32(9).u64(0).u64(0), "version 9"),
        (GgufBytes::new(1 << 40, 0), "tensor count 1099511627776 exceeds limit 65536"),
        (GgufBytes::new(0, 1).string("k").u32(8).u64(u64::MAX), "length 18446744073709551615"),
        (GgufBytes::new(1, 0).tensor("w", &[255], 12, 0).data(144), "multiple of block 256"),
        (GgufBytes::new(1, 0).tensor("w", &[32], 0, 64).data(256), "offset 64"),
        (GgufBytes::new(1, 0).tensor("w", &[32], 4000, 0).data(128), "unsupported ggml type 4000"),
    ];
    for (bytes, expected) in cases {
        let file = place.write("bad.gguf", bytes.0);
        for args in verbs(&place, &file) {
            place.refused(args, 3, &["bad.gguf: ", expected]);
        }
    }
}

#[test]
fn other_architectures_by_name() {
    let place = Workplace::new();
    for architecture in ["llama", "rwkv7", "rwkv6qwen2"] {
        let header = GgufBytes::new(0, 1).key("general.architecture", 8).string(architecture);
        let file = place.write("other.gguf", header.0);
        let [convert, _inspect, others @ ..] = verbs(&place, &file);
        for args in others.into_iter().chain([convert]) {
            place.refused(args, 3, &["other.gguf: ", &format!("{architecture:?}"), "rwkv6"]);
        }
    }
    let file = place.write("none.gguf", GgufBytes::new(0, 0).0);
    let [convert, _inspect, others @ ..] = verbs(&place, &file);
    for args in others.into_iter().chain([convert]) {
        place.refused(args, 3, &["none.gguf: ", "general.architecture"]);
    }
}

#[test]
fn quantized_sources() {
    let (place, model) = Workplace::with_gguf("q8_0");
    let args = args!["convert", model, "--preset", "q4_k", "-o", place.path("out.gguf")];
    place.refused(args, 3, &["m.gguf: tensor ", "is q8_0 already; quantize from an f32"]);
}
