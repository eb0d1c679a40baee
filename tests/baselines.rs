//! Baselines and controls: GloVe files good and bad, and the numbers of the study.

use std::fs;
use std::path::{Path, PathBuf};

use rwkvq::eval::controls::{self, RANDOM_DIMS};
use rwkvq::eval::{Dataset, Glove, Pair};
use rwkvq::Error;

fn test_data() -> Option<PathBuf> {
    let root = std::env::var_os("RWKVQ_TEST_DATA").map(PathBuf::from);
    if root.is_none() {
        println!("skipped: RWKVQ_TEST_DATA is not set");
    }
    root
}

fn dataset(folder: &Path, rows: &str) -> Dataset {
    let path = folder.join("pairs.tsv");
    fs::write(&path, rows).unwrap();
    Dataset::open(path, None, None).unwrap()
}

#[test]
fn glove_means_count_unknown_words_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(
        folder.path(),
        "1\tThe cat\tthe dog\n0\tcat  CAT\tunknown words\n2\tcat\tcat who\n",
    );
    let path = folder.path().join("glove.txt");
    fs::write(&path, "the 1 0\ncat 0 1\nbird 5 5\ndog 1 1\r\n. . 1 2\n").unwrap();
    let glove = Glove::open(&path, &data).unwrap();
    assert_eq!((glove.n_dims(), glove.n_words()), (2, 3));
    let found = glove.evaluate(&data);
    // (1,1)/2 to (2,1)/2: 3 / sqrt(2 * 5); zeros; (0,1) to (0,1)/2.
    let expected = [3.0 / 10f64.sqrt(), 0.0, 1.0];
    for (found, expected) in found.similarities.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
    assert_eq!(found.spearman, Some(1.0));
    assert_eq!(found.oov_rate, 3.0 / 11.0);
    assert!(found.seconds_per_pair.is_finite());
}

#[test]
fn a_word2vec_header_sets_the_dimensions() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "1\tcat\tdog\n");
    let path = folder.path().join("vectors.txt");
    fs::write(&path, "2 3\ncat 0 1 2\ndog 2 1 0\n").unwrap();
    let glove = Glove::open(&path, &data).unwrap();
    assert_eq!((glove.n_dims(), glove.n_words()), (3, 2));
    assert!((glove.evaluate(&data).similarities[0] - 0.2).abs() < 1e-12);
}

#[test]
fn bad_glove_rows_are_named_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "1\tcat\tdog\n");
    let path = folder.path().join("glove.txt");
    let long = format!("the 1 2\n{}\n", "x".repeat(70_000));
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty file"),
        (b"the\n", "line 1: expected a word and its vector, split by spaces"),
        (b"the 1 x\n", "line 1: \"x\" is not a finite number"),
        (b"the 1 2\ncat 1\n", "line 2: expected 2 values, found 1"),
        (b"the 1 2\nother 1 2 3\n", "line 2: expected 2 values, found 3"),
        (b"the 1 2\n\ncat\n", "line 3: expected 2 values, found 0"),
        (b"the 1 2\ncat 1 inf\n", "line 2: \"inf\" is not a finite number"),
        (b"the 1 2\ncat 1 1e60\n", "line 2: \"1e60\" is not a finite number"),
        (b"the 1 2\ncat 1 \n", "line 2: expected 2 values, found 1"),
        (b"the 1 2\ncat  1\n", "line 2: \"\" is not a finite number"),
        (b"the 1 2\nc\xff 1 2\n", "line 2: not UTF-8"),
        (long.as_bytes(), "line 2: longer than 65536 bytes"),
    ];
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let error = Glove::open(&path, &data).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
    }
}

/// word2vec and fastText: a header, a space after each row, and perhaps an empty line at the end.
#[test]
fn rows_may_end_with_a_space() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "1\tcat\tdog\n");
    let path = folder.path().join("vectors.vec");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        let glove = Glove::open(&path, &data).unwrap();
        (glove.n_dims(), glove.n_words(), glove.evaluate(&data).similarities)
    };
    let plain = read("cat 1 2\ndog 2 1\n");
    assert_eq!((plain.0, plain.1), (2, 2));
    assert_eq!(read("2 2\ncat 1 2 \ndog 2 1 \n\n"), plain);
    assert_eq!(read("\u{feff}2 2\ncat 1 2\ndog 2 1\n"), plain);
    assert_eq!(read("cat 1 2 \r\ndog 2 1 \r\n"), plain);
}

#[test]
fn word_overlap_is_that_of_unicode_word_sets() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "3\tDon't stop, STOP!\tdon t stop_it now\n\
                2\tcaf\u{e9} x2 \u{4f60}\u{597d}\tCAF\u{c9} X2 \u{4f60}\n\
                1\t?!\t...\n\
                0\ta b\ta b\n";
    let found = controls::word_jaccard(&dataset(folder.path(), rows)).similarities;
    // {don, t, stop} and {don, t, stop_it, now}; {cafe', x2, two characters} and {cafe', x2, one}.
    assert_eq!(found, [2.0 / 5.0, 2.0 / 4.0, 0.0, 1.0]);
}

#[test]
fn glove_and_overlap_reach_the_numbers_of_the_study() {
    let Some(root) = test_data() else { return };
    let root = root.join("data");
    // Length differences: computed with Python and SciPy.
    for (file, limit, glove, jaccard, length) in [
        ("hf/dev", None, 0.4326, 0.4196, 0.2455),
        ("hf/train", Some(1000), 0.3876, 0.4226, 0.1952),
        ("raw/dev", None, 0.3794, 0.4188, 0.2484),
        ("raw/train", Some(1000), 0.3723, 0.4226, 0.1968),
    ] {
        let path = root.join("mrpc").join(file).with_extension("tsv");
        let data = Dataset::open(path, None, limit).unwrap();
        let vectors = Glove::open(root.join("glove/glove.6B.50d.mrpc-words.txt"), &data).unwrap();
        let found = [
            (vectors.evaluate(&data).spearman, glove),
            (controls::word_jaccard(&data).spearman, jaccard),
            (controls::length_difference(&data).spearman, length),
        ];
        for (found, expected) in found {
            let found = found.unwrap();
            assert!((found - expected).abs() < 0.000_05, "{file}: {found} {expected}");
        }
    }
}

#[test]
fn random_vectors_of_gpt2_ids_reach_the_numbers_of_the_study() {
    let Some(root) = test_data() else { return };
    let root = root.join("data");
    let tokenizer = gpt2(&root.join("gpt2"));
    // Mean over ten seeds and the range that other seeds of another generator gave.
    for (file, limit, mean, range) in
        [("train", Some(1000), 0.3319, [0.3266, 0.3369]), ("dev", None, 0.3846, [0.3754, 0.3915])]
    {
        let path = root.join("mrpc/hf").join(file).with_extension("tsv");
        let data = Dataset::open(path, None, limit).unwrap();
        let ids = |text: fn(&Pair) -> &str| -> Vec<Vec<u32>> {
            let encode = |pair| tokenizer.encode(text(pair), false).unwrap().get_ids().to_vec();
            data.pairs.iter().map(encode).collect()
        };
        let (a, b) = (ids(|pair| &pair.a), ids(|pair| &pair.b));
        let seeds: Vec<u64> = (0..10).collect();
        let found =
            controls::random_token_vectors(&a, &b, &data.scores(), RANDOM_DIMS, &seeds).unwrap();
        println!("{file}: {found:?}");
        assert!((found.mean - mean).abs() < 0.003, "{file}: {found:?}");
        let [low, high] = found.range;
        assert!(low > range[0] - 0.01 && high < range[1] + 0.01 && low < high, "{found:?}");
    }
}

#[test]
fn random_vectors_need_seeds_and_spread() {
    let (a, b) = ([vec![1], vec![2, 3]], [vec![1], vec![4]]);
    let run = |scores: &[f64], seeds: &[u64]| {
        controls::random_token_vectors(&a, &b, scores, 64, seeds).map(|found| found.spearmans)
    };
    assert_eq!(run(&[1.0, 0.0], &[3, 4]), Some(vec![1.0, 1.0]));
    assert_eq!(run(&[1.0, 0.0], &[]), None);
    assert_eq!(run(&[1.0, 1.0], &[3]), None);
}

/// GPT-2's byte-level BPE from its two files.
fn gpt2(folder: &Path) -> tokenizers::Tokenizer {
    use tokenizers::models::bpe::BPE;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    let file = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let bpe = BPE::from_file(&file("encoder.json"), &file("vocab.bpe"));
    let mut tokenizer = tokenizers::Tokenizer::new(bpe.build().unwrap());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let len = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), data].concat()
}

#[test]
fn arrays_with_a_vocabulary_give_what_the_text_gives() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(
        folder.path(),
        "1\tThe cat\tthe dog\n0\tcat  CAT\tunknown words\n2\tcat\tcat who\n",
    );
    let text = folder.path().join("glove.txt");
    fs::write(&text, "the 1 0\ncat 0 1\nbird 5 5\ndog 1 1.5\n").unwrap();
    let expected = Glove::open(&text, &data).unwrap().evaluate(&data);
    let values = [1f64, 0., 0., 1., 5., 5., 1., 1.5];
    let f64s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f32s: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    let f16s: Vec<u8> = [0x3c00u16, 0, 0, 0x3c00, 0x4500, 0x4500, 0x3c00, 0x3e00]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    for (descr, bytes) in [("<f8", f64s), ("<f4", f32s), ("<f2", f16s)] {
        let path = folder.path().join("vectors.npy");
        fs::write(&path, npy(descr, "(4, 2)", &bytes)).unwrap();
        for (vocabulary, words) in [
            ("vectors.vocab", "the 120\ncat 7\nbird 6\ndog 5\n"),
            ("vectors.txt", "the\r\ncat\r\nbird\r\ndog"),
        ] {
            let vocabulary = folder.path().join(vocabulary);
            fs::write(&vocabulary, words).unwrap();
            let glove = Glove::open(&path, &data).unwrap();
            assert_eq!((glove.n_dims(), glove.n_words()), (2, 3));
            let found = glove.evaluate(&data);
            assert_eq!(found.similarities, expected.similarities);
            assert_eq!(found.oov_rate, expected.oov_rate);
            fs::remove_file(vocabulary).unwrap();
        }
    }
}

#[test]
fn bad_arrays_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "1\tcat\tdog\n");
    let path = folder.path().join("vectors.npy");
    let words = folder.path().join("vectors.vocab");
    let ones: Vec<u8> = [1f32; 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    let nan: Vec<u8> = [1f32, f32::NAN, 1., 1.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let fortran = String::from_utf8_lossy(&npy("<f4", "(2, 2)", b"")).replace("False", "True ");
    for (bytes, vocabulary, expected) in [
        (npy("<f4", "(2, 2)", &ones), None, "vectors.vocab or vectors.txt"),
        (npy("<f4", "(2, 2)", &ones), Some("cat\n"), "expected as many words"),
        (npy("<f4", "(2, 2)", &ones), Some("cat\ndog\nbird\n"), "expected as many words"),
        (npy("<f4", "(2, 3)", &ones), Some("cat\ndog\n"), "does not fit 16 bytes"),
        (npy("<f4", "(4,)", &ones), Some("cat\ndog\n"), "two dimensions"),
        (npy("<i4", "(2, 2)", &ones), Some("cat\ndog\n"), "values of type <i4"),
        (npy("<f4", "(2, 2)", &nan), Some("cat\ndog\n"), "row 0 (\"cat\")"),
        (npy("<f4", "(4611686018427387904, 4)", &ones), Some("cat\n"), "does not fit"),
        (fortran.into_bytes(), Some("cat\ndog\n"), "NumPy"),
        (b"\x93NUMPY\x01\x00\xff\xff".to_vec(), Some("cat\ndog\n"), "cut"),
        (b"cat 1 2\n".to_vec(), Some("cat\ndog\n"), "not a NumPy array"),
    ] {
        fs::write(&path, bytes).unwrap();
        match vocabulary {
            Some(text) => fs::write(&words, text).unwrap(),
            None => assert!(!words.exists()),
        }
        let error = Glove::open(&path, &data).unwrap_err();
        assert!(!matches!(error, Error::Io { .. } | Error::Argument { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
