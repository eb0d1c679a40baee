//! Data sets: the formats that are read, and a message with file and line for every row that is not.

use std::fs;
use std::path::{Path, PathBuf};

use rwkvq::eval::{Dataset, Pair, TextVariant};
use rwkvq::Error;

const MRPC_HEADER: &str = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn pair(score: f64, a: &str, b: &str) -> Pair {
    Pair { score, a: a.into(), b: b.into() }
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path, None, None).unwrap()
}

#[test]
fn mrpc_keeps_quotes_spaces_and_a_byte_order_mark_apart() {
    let folder = Folder::new();
    let rows = "1\t10\t11\t\" Open quote , he said .\t trailing space \r\n0\t12\t13\tA\tB";
    let path = folder.file("dev.tsv", format!("\u{feff}{MRPC_HEADER}{rows}"));
    let data = open(&path);
    assert_eq!(
        data.pairs,
        [pair(1.0, "\" Open quote , he said .", " trailing space "), pair(0.0, "A", "B")]
    );
    assert_eq!((data.name.as_str(), data.split.as_deref()), ("mrpc", Some("dev")));
    assert_eq!((data.is_binary(), data.n_positive()), (true, Some(1)));
    assert_eq!(data.path, path);
}

#[test]
fn columns_are_found_by_name_in_every_format() {
    let folder = Folder::new();
    let expected = [pair(2.5, "one, two", "say \"three\""), pair(0.0, "fo\u{fc}r", "five")];
    let files = [
        ("x.tsv", "text2\tid\tSCORE\ttext1\nsay \"three\"\t1\t2.5\tone, two\nfive\t2\t0\tfo\u{fc}r\n"),
        ("bare.tsv", "2.5\tone, two\tsay \"three\"\n0\tfo\u{fc}r\tfive\n"),
        ("bare.txt", "2.5\tone, two\tsay \"three\"\r\n0\tfo\u{fc}r\tfive\r\n"),
        ("x.csv", "b,a,label\n\"say \"\"three\"\"\",\"one, two\",2.5\nfive,fo\u{fc}r,0\n"),
        ("no-extension", "2.5,\"one, two\",\"say \"\"three\"\"\"\n0,fo\u{fc}r,five\n"),
        (
            "x.jsonl",
            "{\"sentence1\":\"one, two\",\"sentence2\":\"say \\\"three\\\"\",\"label\":2.5,\"idx\":0}\n\
             {\"score\":0,\"text2\":\"five\",\"text1\":\"fo\\u00fcr\"}\n",
        ),
        ("x.json", "{\"gold\":2.5,\"a\":\"one, two\",\"b\":\"say \\\"three\\\"\"}\n{\"gold\":0e1,\"a\":\"fo\u{fc}r\",\"b\":\"five\"}"),
    ];
    for (name, text) in files {
        let data = open(&folder.file(name, text));
        assert_eq!(data.pairs, expected, "{name}");
        assert_eq!((data.n_positive(), data.split.as_deref()), (None, None), "{name}");
    }
}

#[test]
fn a_quoted_csv_field_may_hold_a_line_break() {
    let folder = Folder::new();
    let path = folder.file("x.csv", "score,sentence1,sentence2\n1,\"two\nlines\",b\nx,c,d\n");
    let found = Dataset::open(&path, None, Some(1)).unwrap();
    assert_eq!(found.pairs, [pair(1.0, "two\nlines", "b")]);
    let message = Dataset::open(&path, None, None).unwrap_err().to_string();
    assert!(message.ends_with("line 4: score \"x\" is not a finite number"), "{message}");
}

#[test]
fn a_csv_quote_that_never_closes() {
    let folder = Folder::new();
    for (rows, line) in [("1,x,\"y\n0,z,w\n0.5,p,q\n", 1), ("1,x,y\n0,z,\"w", 2)] {
        let path = folder.file("x.csv", rows);
        let message = Dataset::open(&path, None, None).unwrap_err().to_string();
        let expected = format!("line {line}: a quote opens in this row and is never closed");
        assert!(message.ends_with(&expected), "{message}");
    }
    // Quotes at the end that do close, and one that opens nothing.
    for rows in ["1,x,\"y\"", "1,x,\"y\"\n\n", "1,x,5\" of rain\n"] {
        let path = folder.file("x.csv", rows);
        assert_eq!(Dataset::open(&path, None, None).unwrap().pairs.len(), 1, "{rows}");
    }
}

#[test]
fn limit_split_name_and_hash() {
    let folder = Folder::new();
    // The third row is bad; a limit of two does not reach it.
    let path = folder.file("my-test.tsv", "1\ta\tb\n0\tc\td\nbad\n");
    let data = Dataset::open(&path, Some("validation"), Some(2)).unwrap();
    assert_eq!((data.name.as_str(), data.split.as_deref()), ("my-test", Some("validation")));
    assert_eq!(data.pairs.len(), 2);
    // sha256sum of the same 16 bytes.
    assert_eq!(
        data.file_sha256,
        "e378bc9b07571decc2fdd8581f7fe9cb5477b01721d3d91fa259bd2d4b157f45"
    );
    assert!(matches!(Dataset::open(&path, None, Some(0)), Err(Error::Argument { .. })));
    let missing = Dataset::open(path.with_file_name("none.tsv"), None, None);
    assert!(matches!(missing, Err(Error::Io { .. })));
    assert!(matches!(Dataset::open(folder.0.path(), None, None), Err(Error::Io { .. })));
}

#[test]
fn every_bad_row_is_named_by_file_and_line() {
    let folder = Folder::new();
    let long = "x".repeat(1 << 20);
    let mrpc = |row: &str| format!("{MRPC_HEADER}1\t1\t2\ta\tb\n{row}\n").into_bytes();
    let plain = |row: &str| format!("1\ta\tb\n{row}\n").into_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a.tsv", mrpc("1\t1\t2\ta"), "line 3: expected 5 fields, found 4"),
        ("a.tsv", mrpc("1\t1\t2\ta\tb\tc"), "line 3: expected 5 fields, found 6"),
        ("a.tsv", mrpc("\nx"), "line 4: expected 5 fields, found 1"),
        ("a.tsv", mrpc("yes\t1\t2\ta\tb"), "line 3: score \"yes\" is not a finite number"),
        ("a.tsv", plain("nan\ta\tb"), "line 2: score \"nan\" is not a finite number"),
        ("a.tsv", plain("1e999\ta\tb"), "line 2: score \"1e999\" is not a finite number"),
        ("a.tsv", plain("\ta\tb"), "line 2: score \"\" is not a finite number"),
        ("a.tsv", plain("1\t\tb"), "line 2: empty text"),
        ("a.tsv", plain("1\ta\t"), "line 2: empty text"),
        ("a.tsv", plain(&format!("1\ta\t{long}")), "line 2: longer than 1048576 bytes"),
        ("a.tsv", b"1\ta\tb\n1\t\xff\tb\n".to_vec(), "line 2: not UTF-8"),
        ("a.tsv", b"\xff\xfe1\0\t\0".to_vec(), "line 1: not UTF-8"),
        ("a.tsv", Vec::new(), "empty data set"),
        ("a.tsv", b"\xef\xbb\xbf".to_vec(), "empty data set"),
        ("a.tsv", MRPC_HEADER.as_bytes().to_vec(), "empty data set"),
        ("a.csv", Vec::new(), "empty data set"),
        ("a.csv", b"1,a,b\n1,a\n".to_vec(), "line 2: expected 3 fields, found 2"),
        ("a.csv", b"1,a,b\n1,\"a,b\n".to_vec(), "line 2: expected 3 fields, found 2"),
        ("a.csv", format!("1,a,{long}\n").into(), "line 1: longer than 1048576 bytes"),
        ("a.csv", b"1,a,b\n\n1,\xff,b\n".to_vec(), "line 3: not UTF-8"),
        (
            "a.csv",
            b"score,a,b\r\n1,\"x\r\ny\",z\r\n\r\n2,a\r\n".to_vec(),
            "line 5: expected 3 fields, found 2",
        ),
        (
            "a.jsonl",
            b"{\"score\":1,\"a\":\"x\",\"b\":\"y\"}\n[1]\n".to_vec(),
            "line 2: not a JSON object",
        ),
        (
            "a.jsonl",
            b"{\"score\":\"1\",\"a\":\"x\",\"b\":\"y\"}\n".to_vec(),
            "line 1: score \"\\\"1\\\"\" is not a finite number",
        ),
        (
            "a.jsonl",
            b"{\"score\":1e999,\"a\":\"x\",\"b\":\"y\"}\n".to_vec(),
            "line 1: score \"1e+999\" is not a finite number",
        ),
        (
            "a.jsonl",
            b"{\"score\":1,\"a\":\"x\",\"b\":7}\n".to_vec(),
            "line 1: a text is not a string",
        ),
        ("a.jsonl", b"{\"score\":1,\"a\":\"x\",\"b\":\"\"}\n".to_vec(), "line 1: empty text"),
        ("a.json", b"[{\"score\":1}]\n".to_vec(), "a JSON array; write one object a line (JSONL)"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.file(name, &bytes);
        let message = Dataset::open(&path, None, None).unwrap_err().to_string();
        assert_eq!(message, format!("{}: {expected}", path.display()));
    }
}

#[test]
fn a_header_without_known_columns_says_which_would_do() {
    let folder = Folder::new();
    for (name, text) in [
        ("a.tsv", "points\tleft\tright\n1\ta\tb\n"),
        ("a.csv", "sentence1,sentence2\na,b\n"),
        ("a.jsonl", "{\"score\":1,\"left\":\"x\"}\n"),
    ] {
        let message = Dataset::open(folder.file(name, text), None, None).unwrap_err().to_string();
        assert!(message.contains(&format!("{name}: line 1: expected ")), "{message}");
        assert!(
            message.contains("sentence1/sentence2") && message.contains("quality"),
            "{message}"
        );
    }
    let deep = "[".repeat(100_000);
    let path = folder.file("deep.jsonl", format!("{{\"score\":{deep}"));
    let message = Dataset::open(path, None, None).unwrap_err().to_string();
    assert!(message.contains("line 1: not JSON: recursion limit exceeded"), "{message}");
}

/// No cut of a valid file may panic; one that ends inside a row's last text is itself valid.
#[test]
fn no_prefix_of_a_file_panics() {
    let folder = Folder::new();
    for (name, text) in [
        ("x.tsv", format!("{MRPC_HEADER}1\t1\t2\ta\u{e9}\tb\n0\t3\t4\tc\td\n")),
        ("x.csv", "score,a,b\n1,\"a\u{e9}\",b\n".to_string()),
        ("x.jsonl", "{\"score\":1.5,\"a\":\"x\u{e9}\",\"b\":\"y\"}\n".to_string()),
    ] {
        assert!(Dataset::open(folder.file(name, &text), None, None).is_ok(), "{name}");
        for end in 0..text.len() {
            let path = folder.file(name, &text.as_bytes()[..end]);
            if let Ok(data) = Dataset::open(&path, None, None) {
                assert!(!data.pairs.is_empty(), "{name} cut at {end}");
            }
        }
    }
}

#[test]
fn mrpc_has_the_published_counts() {
    let Some(root) = std::env::var_os("RWKVQ_TEST_DATA") else {
        println!("skipped: RWKVQ_TEST_DATA is not set");
        return;
    };
    let root = Path::new(&root).join("data/mrpc");
    for (folder, variant) in [("hf", TextVariant::Hf), ("raw", TextVariant::Raw)] {
        for (split, n, positive) in [("train", 3668, 2474), ("dev", 408, 279), ("test", 1725, 1147)]
        {
            let data = open(&root.join(folder).join(split).with_extension("tsv"));
            assert_eq!(
                (data.pairs.len(), data.n_positive()),
                (n, Some(positive)),
                "{folder} {split}"
            );
            assert_eq!(
                (data.text_variant, data.name.as_str()),
                (variant, "mrpc"),
                "{folder} {split}"
            );
            assert_eq!(data.split.as_deref(), Some(split));
        }
    }
}

#[test]
fn the_demo_pairs_are_balanced_distinct_and_short() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo/sentence-pairs.tsv");
    let data = open(&path);
    assert!(data.pairs.len() >= 150, "{}", data.pairs.len());
    assert_eq!(data.text_variant, TextVariant::Raw);
    let mut seen = std::collections::HashSet::new();
    for Pair { score, a, b } in &data.pairs {
        for text in [a, b] {
            let n_words = text.split_whitespace().count();
            assert!((8..=25).contains(&n_words), "{n_words} words: {text}");
            assert_eq!(text.trim(), text);
            assert!(seen.insert(text), "twice: {text}");
        }
        assert!((0.0..=5.0).contains(score) && score.fract() == 0.0, "{score}: {a}");
    }
    for grade in 0..=5 {
        let n = data.pairs.iter().filter(|pair| pair.score == f64::from(grade)).count();
        assert!(n * 6 * 10 >= data.pairs.len() * 9, "grade {grade} has {n} pairs");
    }
}
