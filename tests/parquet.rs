//! Parquet data sets: files that pyarrow wrote, and files that are cut or spoiled.

use std::fs;
use std::path::{Path, PathBuf};

use rwkvq::eval::{Dataset, Pair, TextVariant};
use rwkvq::Error;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parquet").join(name)
}

fn open(name: &str) -> Dataset {
    Dataset::open(file(name), None, None).unwrap()
}

fn texts(data: &Dataset) -> Vec<(&str, &str)> {
    data.pairs.iter().map(|pair| (pair.a.as_str(), pair.b.as_str())).collect()
}

#[test]
fn the_file_of_the_hub_is_read_in_order() {
    let data = open("mrpc.parquet");
    assert_eq!((data.pairs.len(), data.n_positive()), (12, Some(7)));
    assert_eq!(data.name, "mrpc");
    assert_eq!(data.text_variant, TextVariant::Hf);
    let first = Pair {
        score: 1.0,
        a: "The bakery on the corner sells rye bread .".into(),
        b: "Rye bread is sold at the corner bakery .".into(),
    };
    assert_eq!(data.pairs[0], first);
    assert_eq!(data.pairs[7].a, "Snow fell on the caf\u{e9} terrace overnight .");
    let limited = Dataset::open(file("mrpc.parquet"), Some("validation"), Some(3)).unwrap();
    assert_eq!(limited.pairs, data.pairs[..3]);
    assert_eq!(limited.split.as_deref(), Some("validation"));
    assert_eq!(limited.file_sha256, data.file_sha256);
}

#[test]
fn other_ways_to_write_hold_the_same_texts() {
    let (mrpc, stsb, sick) = (open("mrpc.parquet"), open("stsb.parquet"), open("sick.parquet"));
    assert_eq!(texts(&mrpc), texts(&stsb));
    assert_eq!(texts(&mrpc), texts(&sick));
    let labels = mrpc.scores();
    // The score beside SICK's entailment label, not the label.
    let related: Vec<f64> = labels.iter().map(|label| 4.0 * label + 1.0).collect();
    assert_eq!(sick.scores(), related);
    let floats = labels.iter().enumerate().map(|(i, label)| 5.0 * label + 0.25 * i as f64 / 12.0);
    let floats: Vec<f64> = floats.map(|score| f64::from(score as f32)).collect();
    assert_eq!(stsb.scores(), floats);
}

#[test]
fn the_content_tells_parquet_without_an_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1a2b3c");
    fs::copy(file("mrpc.parquet"), &path).unwrap();
    assert_eq!(Dataset::open(&path, None, None).unwrap().pairs, open("mrpc.parquet").pairs);
}

#[test]
fn what_cannot_be_used_is_named() {
    for (name, expected) in [
        ("null-score.parquet", "column label: a row without a value"),
        ("zstd.parquet", "packed with zstd; write it with snappy"),
        ("repeated.parquet", "column text1: not in every row group, or not flat"),
        ("delta.parquet", "column sentence1: encoding 7 is not supported"),
        ("withheld.parquet", "labels of this split are withheld"),
    ] {
        let error = Dataset::open(file(name), None, None).unwrap_err();
        let bad_input = matches!(error, Error::Malformed { .. } | Error::Unsupported { .. });
        assert!(bad_input && error.to_string().contains(expected), "{name}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"a\tb\tc\n"] {
        fs::write(&path, bytes).unwrap();
        let error = Dataset::open(&path, None, None).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    }
}

/// A spoiled file is an error or some other data set, never a panic and never much memory.
#[test]
fn no_spoiled_file_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let try_open = |bytes: &[u8]| {
        // A new file each time: file systems take long to write one over another.
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        Dataset::open(&path, None, None).map(|data| data.pairs.len())
    };
    let mut changed = 0;
    for name in ["mrpc.parquet", "stsb.parquet", "sick.parquet"] {
        let good = fs::read(file(name)).unwrap();
        for n in (0..good.len()).step_by(7) {
            assert!(try_open(&good[..n]).is_err(), "{name}: {n} bytes");
        }
        for at in 0..good.len() {
            for value in [0xff, good[at] ^ 1, good[at].wrapping_add(16)] {
                let mut bytes = good.clone();
                bytes[at] = value;
                changed += usize::from(try_open(&bytes).ok() != Some(12));
            }
        }
    }
    assert!(changed > 1000, "{changed}");
}
