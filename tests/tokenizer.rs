//! Text to ids and back: the reference's ids, hostile vocabulary files, and nothing lost.
//!
//! Two variables add checks on files that are not part of this project: `RWKVQ_TEST_DATA`, a
//! folder of test data, and `RWKVQ_WORLD_VOCAB`, the real `rwkv_vocab_v20230424.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rwkvq::tokenizer::{Tokenizer, TokenizerKind, WorldVocab};
use rwkvq::Error;

/// Texts and their ids in the real vocabulary, by a greedy longest match.
const VECTORS: [(&str, &[u32]); 19] = [
    ("Hello world!", &[33155, 40213, 34]),
    (
        "The quick brown fox jumps over the lazy dog.",
        &[6699, 39418, 37917, 21704, 38828, 31601, 22590, 31261, 21551, 47],
    ),
    (" leading space", &[52107, 39750]),
    ("    four spaces", &[19250, 25451, 47345]),
    ("\n\n", &[261]),
    ("\r\n", &[263]),
    ("a\n\nb", &[98, 261, 99]),
    ("こんにちは世界", &[10115, 10165, 10136, 10127, 10139, 10267, 14610]),
    ("你好，世界", &[10464, 11685, 19137, 10267, 14610]),
    ("\u{1f600}", &[3319, 153, 129]),
    ("Ünïcödé", &[2490, 111, 2509, 100, 9350, 2503]),
    ("\0\u{80}", &[1, 2423]),
    ("1234567890", &[632, 654, 676, 698, 710]),
    (
        "It's a test: \"quotes\" and 'single'.",
        &[1141, 460, 332, 32223, 59, 269, 35478, 116, 35, 21265, 274, 42269, 446],
    ),
    ("\u{feff}BOM", &[19125, 875, 78]),
    ("e\u{301}", &[102, 2672]),
    // Text never becomes a control id or a padding id, as it does in llama.cpp.
    ("<s>", &[61, 116, 63]),
    ("a <s> b", &[98, 295, 116, 63, 333]),
    ("[PAD65530]", &[92, 6404, 685, 673, 49, 94]),
];

/// The tokens of more than one byte in `VECTORS`.
#[rustfmt::skip]
const TOKENS: [(u32, &[u8]); 57] = [
    (261, b"\n\n"), (263, b"\r\n"), (269, b" \""), (274, b" '"), (295, b" <"), (332, b" a"),
    (333, b" b"), (446, b"'."), (460, b"'s"), (632, b"12"), (654, b"34"), (673, b"53"),
    (676, b"56"), (685, b"65"), (698, b"78"), (710, b"90"), (875, b"BO"), (1141, b"It"),
    (2423, b"\xc2\x80"), (2490, b"\xc3\x9c"), (2503, b"\xc3\xa9"), (2509, b"\xc3\xaf"),
    (2672, b"\xcc\x81"), (3319, b"\xf0\x9f"), (6404, b"PAD"), (6699, b"The"),
    (9350, b"\xc3\xb6d"), (10115, b"\xe3\x81\x93"), (10127, b"\xe3\x81\xa1"),
    (10136, b"\xe3\x81\xab"), (10139, b"\xe3\x81\xaf"), (10165, b"\xe3\x82\x93"),
    (10267, b"\xe4\xb8\x96"), (10464, b"\xe4\xbd\xa0"), (11685, b"\xe5\xa5\xbd"),
    (14610, b"\xe7\x95\x8c"), (19125, b"\xef\xbb\xbf"), (19137, b"\xef\xbc\x8c"),
    (19250, b"    "), (21265, b" and"), (21551, b" dog"), (21704, b" fox"), (22590, b" the"),
    (25451, b"four"), (31261, b" lazy"), (31601, b" over"), (32223, b" test"),
    (33155, b"Hello"), (35478, b"quote"), (37917, b" brown"), (38828, b" jumps"),
    (39418, b" quick"), (39750, b" space"), (40213, b" world"), (42269, b"single"),
    (47345, b" spaces"), (52107, b" leading"),
];

/// A vocabulary with holes: all single bytes, byte `b` with id `b + 1`, and `tokens`.
fn sparse_vocab(tokens: &BTreeMap<u32, Vec<u8>>) -> WorldVocab {
    let n = tokens.keys().last().map_or(257, |&id| id.max(256) as usize + 1);
    let mut texts: Vec<String> = (0..n).map(|id| format!("[PAD{id}]")).collect();
    let mut types = vec![5; n];
    (texts[0], types[0]) = ("<s>".into(), 3);
    let bytes = (1u32..).zip(0..=u8::MAX).map(|(id, byte)| (id, vec![byte]));
    for (id, token) in bytes.chain(tokens.clone()) {
        texts[id as usize] = token.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        types[id as usize] = 1;
    }
    WorldVocab::from_gguf_tokens(Path::new("made.gguf"), &texts, &types).unwrap()
}

fn vector_vocab() -> WorldVocab {
    sparse_vocab(&TOKENS.iter().map(|&(id, token)| (id, token.to_vec())).collect())
}

/// The vocabulary file `vocab.txt` with `content`, read; errors name it without its folder.
fn read_vocab(content: &[u8]) -> Result<WorldVocab, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.txt");
    fs::write(&path, content).unwrap();
    WorldVocab::from_file(&path).map_err(|error| {
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        error.to_string().replace(&path.display().to_string(), "vocab.txt")
    })
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name);
    if value.is_none() {
        println!("skipped: {name} is not set");
    }
    value.map(PathBuf::from)
}

#[test]
fn ids_are_those_of_the_reference() {
    let vocab = vector_vocab();
    for (text, ids) in VECTORS {
        assert_eq!(vocab.encode_bytes(text.as_bytes()).unwrap(), ids, "{text:?}");
        assert_eq!(vocab.decode(ids).unwrap(), text.as_bytes());
    }
    assert_eq!((vocab.n_tokens(), vocab.missing_bytes()), (52108, vec![]));
}

#[test]
fn the_file_format_in_full() {
    let lines = "1 'a b' 3\n2 \"it's\" 4\n3 b'\\xff' 1\n4 '\\xff' 2\n5 '\\n' 1\n6 ' ' 1\n7 'é' 2";
    for text in [lines.to_string(), format!("{lines}\n"), lines.replace('\n', "\r\n")] {
        let vocab = read_vocab(text.as_bytes()).unwrap();
        let bytes = vocab.decode(&[1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(bytes, b"a bit's\xff\xc3\xbf\n \xc3\xa9");
        assert_eq!(vocab.encode_bytes(&bytes).unwrap(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(vocab.n_tokens(), 8);
        assert_eq!(vocab.missing_bytes().len(), 256 - 3);
    }
}

#[test]
fn what_has_no_token_is_named() {
    let vocab = read_vocab(b"1 'a' 1\n2 'bc' 2\n").unwrap();
    let message = |result: Result<Vec<u32>, Error>| match result {
        Err(error @ Error::Argument { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for (text, byte) in [("aaxb", "0x78"), ("bcbd", "0x62"), ("aab", "0x62")] {
        let expected = format!("byte {byte} at 2 of the text starts no token of ");
        assert!(message(vocab.encode_bytes(text.as_bytes())).starts_with(&expected), "{text}");
    }
    for id in [0, 3, u32::MAX] {
        let error = vocab.decode(&[1, id]).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }));
        assert!(error.to_string().starts_with(&format!("token id {id} is not in ")));
    }
    assert!(vocab.encode_bytes(b"").unwrap().is_empty());
    assert_eq!(vocab.decode(&[]).unwrap(), b"");
}

/// One test for each way a vocabulary file can be wrong.
macro_rules! refused {
    ($($name:ident: $content:expr => $message:expr;)*) => {$(
        #[test]
        fn $name() {
            let content = $content;
            assert_eq!(read_vocab(content.as_ref()).err().as_deref(), Some($message.as_ref()));
        }
    )*};
}

refused! {
    refuses_an_empty_file: "" => "vocab.txt: line 1: expected an id, a literal and a length";
    refuses_a_blank_line: "1 'a' 1\n\n" =>
        "vocab.txt: line 2: expected an id, a literal and a length";
    refuses_a_line_of_one_field: "1" => "vocab.txt: line 1: expected an id, a literal and a length";
    refuses_a_line_of_two_fields: "1 'a'" =>
        "vocab.txt: line 1: expected an id, a literal and a length";
    refuses_a_word_as_id: "x 'a' 1" => "vocab.txt: line 1: \"x\" is not an id";
    refuses_a_signed_id: "+1 'a' 1" => "vocab.txt: line 1: \"+1\" is not an id";
    refuses_an_id_over_32_bits: "4294967297 'a' 1" =>
        "vocab.txt: line 1: \"4294967297\" is not an id";
    refuses_id_zero: "0 'a' 1" =>
        "vocab.txt: line 1: id 0, expected 1; ids count from 1 in file order";
    refuses_a_gap_in_the_ids: "1 'a' 1\n3 'b' 1" =>
        "vocab.txt: line 2: id 3, expected 2; ids count from 1 in file order";
    refuses_an_id_twice: "1 'a' 1\n1 'b' 1" =>
        "vocab.txt: line 2: id 1, expected 2; ids count from 1 in file order";
    refuses_a_word_as_length: "1 'a' one" => "vocab.txt: line 1: \"one\" is not a length";
    refuses_a_negative_length: "1 'a' -1" => "vocab.txt: line 1: \"-1\" is not a length";
    refuses_a_wrong_length: "1 'abc' 4" => "vocab.txt: line 1: literal is 3 bytes, the line says 4";
    refuses_a_length_in_characters: "1 'é' 1" =>
        "vocab.txt: line 1: literal is 2 bytes, the line says 1";
    refuses_an_empty_token: "1 '' 0" => "vocab.txt: line 1: a token cannot be empty";
    refuses_equal_tokens: "1 'é' 2\n2 'x' 1\n3 b'\\xc3\\xa9' 2" =>
        "vocab.txt: line 3: the same bytes as line 1";
    refuses_a_bare_word: "1 abc 3" =>
        "vocab.txt: line 1: expected a literal such as 'abc', \"abc\" or b'\\xff'";
    refuses_an_open_literal: "1 'abc 3" => "vocab.txt: line 1: the literal has no closing quote";
    refuses_a_literal_that_ends_early: "1 'a'+'b' 2" =>
        "vocab.txt: line 1: the literal ends before the end of its text";
    refuses_a_cut_escape: "1 'a\\' 1" => "vocab.txt: line 1: the text ends after a backslash";
    refuses_an_unknown_escape: "1 '\\N{DASH}' 3" => "vocab.txt: line 1: unknown escape \"\\\\N\"";
    refuses_a_short_hex_escape: "1 '\\x4' 1" => "vocab.txt: line 1: \\x needs 2 hexadecimal digits";
    refuses_a_short_u_escape: "1 '\\u004' 1" =>
        "vocab.txt: line 1: \\u needs 4 hexadecimal digits";
    refuses_a_short_long_u_escape: "1 '\\U0000004' 1" =>
        "vocab.txt: line 1: \\U needs 8 hexadecimal digits";
    refuses_a_surrogate: "1 '\\ud83d' 3" => "vocab.txt: line 1: U+D83D is not a character";
    refuses_a_code_point_past_the_last: "1 '\\UFFFFFFFF' 4" =>
        "vocab.txt: line 1: U+FFFFFFFF is not a character";
    refuses_text_in_a_bytes_literal: "1 b'é' 2" =>
        "vocab.txt: line 1: a bytes literal cannot hold 'é'";
    refuses_bytes_that_are_not_utf8: b"1 'a' 1\n2 '\xff' 1" =>
        "vocab.txt: line 2: byte 3 is not UTF-8";
    refuses_a_long_line: format!("1 '{}' 70000", "a".repeat(70_000)) =>
        "vocab.txt: line 1: 70010 bytes, at most 65536 allowed";
    refuses_a_long_token: format!("1 '{}' 5000", "a".repeat(5000)) =>
        "vocab.txt: line 1: token of 5000 bytes, at most 4096";
    refuses_a_large_file: vec![b'\n'; (64 << 20) + 1] => "vocab.txt: more than 67108864 bytes";
}

#[test]
fn refuses_too_many_tokens() {
    let digits = |id: u32| format!("{id} 'x{id}' {}\n", id.to_string().len() + 1);
    let content: String = (1..=1 << 20).map(digits).collect();
    let expected = "vocab.txt: line 1048576: more than 1048576 tokens";
    assert_eq!(read_vocab(content.as_bytes()).err().as_deref(), Some(expected));
}

#[test]
fn gguf_lists_are_written_as_the_converter_does() {
    let vocab = read_vocab("1 '\\n' 1\n2 'é' 2\n3 \"it's \\\"x\\\"\" 8\n4 b'\\xff' 1".as_bytes());
    let vocab = vocab.unwrap();
    let (texts, types) = vocab.gguf_tokens(7).unwrap();
    let expected = ["<s>", "\\n", "\\xc3\\xa9", "it\\'s \"x\"", "\\xff", "[PAD5]", "[PAD6]"];
    assert_eq!(texts, expected);
    assert_eq!(types, [3, 1, 1, 1, 1, 5, 5]);
    assert_eq!(vocab.gguf_tokens(5).unwrap().0, expected[..5]);
    for n_vocab in [0, 4, usize::MAX] {
        let error = vocab.gguf_tokens(n_vocab).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }));
        let expected = format!(
            "vocabulary: expected 5 to 1048576 rows of the embedding table, found {n_vocab}"
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}

#[test]
fn gguf_lists_that_are_wrong_are_refused() {
    let read = |texts: &[&str], types: &[i32]| {
        let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        let result = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &texts, types);
        result.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let cases: [(&[&str], &[i32], &str); 9] = [
        (
            &["<s>", "a"],
            &[3],
            "m.gguf: tokenizer.ggml.token_type: expected 2 values, one for each token, found 1",
        ),
        (
            &["<s>", "\\x0"],
            &[3, 1],
            "m.gguf: tokenizer.ggml.tokens[1]: \\x needs 2 hexadecimal digits",
        ),
        (
            &["<s>", "\\"],
            &[3, 1],
            "m.gguf: tokenizer.ggml.tokens[1]: the text ends after a backslash",
        ),
        (&["<s>", "\\q"], &[3, 1], "m.gguf: tokenizer.ggml.tokens[1]: unknown escape \"\\\\q\""),
        (&["<s>", ""], &[3, 1], "m.gguf: tokenizer.ggml.tokens[1]: a token cannot be empty"),
        (
            &["<s>", "a"],
            &[3, 7],
            "m.gguf: tokenizer.ggml.token_type[1]: 7 is no token type (1 to 6)",
        ),
        (
            &["a"],
            &[1],
            "m.gguf: tokenizer.ggml.tokens[0]: id 0 is the end of a text and cannot be NORMAL",
        ),
        (&["<s>", "a", "b", "\\x61"], &[3, 1, 1, 1], "m.gguf: id 3: the same bytes as id 1"),
        (&["<s>", "[PAD1]"], &[3, 5], "m.gguf: no tokens"),
    ];
    for (texts, types, message) in cases {
        assert_eq!(read(texts, types), message);
    }
}

#[test]
fn only_normal_tokens_match_text() {
    let texts = ["<s>", "<", "s", ">", "<unk>", "<u>", "[PAD6]", "u"].map(String::from);
    let types = [3, 1, 1, 1, 2, 4, 5, 1];
    let vocab = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &texts, &types).unwrap();
    assert_eq!(vocab.encode_bytes(b"<s><u>").unwrap(), [1, 2, 3, 1, 7, 3]);
    assert!(vocab.decode(&[4]).is_err());
}

#[test]
fn folders_and_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = |path: &Path| Tokenizer::open(path).map(|opened| opened.kind());
    let message = |path: &Path| {
        let error = open(path).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    let expected = "DIR: no tokenizer here: expected rwkv_vocab_v20230424.txt, tokenizer.json, or \
                    vocab.json with merges.txt";
    assert_eq!(message(folder.path()), expected);

    fs::write(at("vocab.json"), r#"{"a": 0, "b": 1, "ab": 3}"#).unwrap();
    let expected = "DIR/vocab.json: a GPT-2 vocabulary needs merges.txt or vocab.bpe beside it";
    assert_eq!(message(folder.path()), expected);
    fs::write(at("merges.txt"), "#version: 0.2\na b\n").unwrap();
    assert_eq!(open(folder.path()).unwrap(), TokenizerKind::Gpt2);
    assert_eq!(open(&at("vocab.json")).unwrap(), TokenizerKind::Gpt2);

    let json = r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
    fs::write(at("tokenizer.json"), json).unwrap();
    assert_eq!(open(folder.path()).unwrap(), TokenizerKind::HuggingFace);

    fs::write(at("rwkv_vocab_v1.txt"), "1 'a' 1\n").unwrap();
    assert_eq!(open(folder.path()).unwrap(), TokenizerKind::World);
    fs::write(at("rwkv_vocab_v2.txt"), "1 'a' 1\n").unwrap();
    let expected = "DIR: holds rwkv_vocab_v1.txt and rwkv_vocab_v2.txt; name the vocabulary file \
                    to use";
    assert_eq!(message(folder.path()), expected);
    fs::write(at("rwkv_vocab_v20230424.txt"), "1 'a' 1\n").unwrap();
    assert_eq!(open(folder.path()).unwrap(), TokenizerKind::World);
    assert_eq!(open(&at("rwkv_vocab_v2.txt")).unwrap(), TokenizerKind::World);
    assert!(matches!(open(&at("absent")), Err(Error::Io { .. })));
}

#[test]
fn gpt2_files_that_are_wrong_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = |vocab: &str, merges: &str| {
        fs::write(folder.path().join("encoder.json"), vocab).unwrap();
        fs::write(folder.path().join("vocab.bpe"), merges).unwrap();
        let error = Tokenizer::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        error.to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    let vocab = r#"{"a": 0, "b": 1}"#;
    let expected = "DIR/vocab.bpe: line 2: \"ab\" is not in the vocabulary";
    assert_eq!(message(vocab, "#version: 0.2\na b\n"), expected);
    let expected = "DIR/encoder.json: an id belongs to two tokens";
    assert_eq!(message(r#"{"a": 0, "b": 0}"#, ""), expected);
    let expected = "DIR/encoder.json: not a vocabulary: ";
    assert!(message(r#"{"a": "x"}"#, "").starts_with(expected));
}

#[test]
fn a_byte_level_vocabulary_drops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vocab.json"), r#"{"a": 0, "b": 1, "ab": 3}"#).unwrap();
    fs::write(folder.path().join("merges.txt"), "a b\n").unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.encode("aba").unwrap(), [3, 0]);
    assert_eq!(tokenizer.decode(&[3, 0]).unwrap(), b"aba");
    assert_eq!(tokenizer.n_tokens(), 4);
    let error = tokenizer.encode("ab c").unwrap_err();
    assert!(matches!(error, Error::Argument { .. }));
    assert!(error.to_string().starts_with("byte 0x20 of the text is no token of "), "{error}");
    assert!(matches!(tokenizer.decode(&[2]), Err(Error::Argument { .. })));
}

#[test]
fn a_tokenizer_json_neither_pads_nor_cuts_nor_adds() {
    let json = r#"{
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": {"Fixed": 1000000000000}, "direction": "Right",
                    "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
        "added_tokens": [{"id": 5, "content": "<s>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "vocab": {"<": 0, "s": 1, ">": 2, "Ã": 3, "©": 4}, "merges": []}
    }"#;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.kind().to_string(), "huggingface");
    assert_eq!(tokenizer.n_tokens(), 6);
    assert_eq!(tokenizer.encode("<s>é").unwrap(), [0, 1, 2, 3, 4]);
    // Half a character comes back as it is, and the special token as its text.
    assert_eq!(tokenizer.decode(&[5, 3]).unwrap(), b"<s>\xc3");
}

/// The library leaves out what is no token of a model of pairs without a token for it.
#[test]
fn characters_that_would_be_dropped_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let open = |model: &str, added: &str| {
        let json = format!(
            r#"{{"added_tokens": [{added}], "pre_tokenizer": {{"type": "Whitespace"}},
                "model": {{"type": "BPE", {model}}}}}"#
        );
        fs::write(&path, json).unwrap();
        Tokenizer::open(&path).unwrap()
    };
    let model = r#""vocab": {"a": 0, "b": 1, "ab": 2, "@b": 3}, "merges": ["a b"]"#;
    let plain = open(model, "");
    assert_eq!(plain.encode("ab  a").unwrap(), [2, 0], "white space only splits");
    let error = plain.encode("ab ca").unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert!(error.to_string().starts_with("character 'c' of the text is no token of "), "{error}");
    // An added token is found before the text is split, a special one is text.
    let added = |special: bool| {
        format!(
            r#"{{"id": 4, "content": "xyz", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": {special}}}"#
        )
    };
    assert_eq!(open(model, &added(false)).encode("axyzb").unwrap(), [0, 4, 1]);
    assert!(open(model, &added(true)).encode("axyzb").is_err());
    // What the model knows counts, not what was added: a special token is text.
    let c = added(true).replace("xyz", "c");
    assert!(open(model, &c).encode("acb").is_err());
    // A token that stands alone is no part of a word.
    let word = added(false).replace(r#""single_word": false"#, r#""single_word": true"#);
    assert!(open(model, &word).encode("axyzb").is_err());
    assert_eq!(open(model, &word).encode("a xyz").unwrap(), [0, 4]);
    // With a token for the unknown nothing is dropped.
    let unknown = open(&format!(r#""unk_token": "b", {model}"#), "");
    assert_eq!(unknown.encode("ca").unwrap(), [1, 0]);
    // Inside of a word characters have a prefix.
    let prefix = r#""continuing_subword_prefix": "@", "vocab": {"a": 0, "b": 1, "@b": 2}"#;
    let prefixed = open(&format!(r#"{prefix}, "merges": []"#), "");
    assert_eq!(prefixed.encode("ab").unwrap(), [0, 2]);
    assert!(prefixed.encode("ba").is_err());
    // At the end of a word, or before an added token, which ends one, they have a suffix.
    let suffix = r#""end_of_word_suffix": "$", "vocab": {"a": 0, "a$": 1, "b": 2, "c": 3}"#;
    let suffixed = open(&format!(r#"{suffix}, "merges": []"#), &added(false));
    assert_eq!(suffixed.encode("aa axyz").unwrap(), [0, 1, 1, 4]);
    assert!(suffixed.encode("ab").is_err());
    // Bytes stand in for characters only where they are tokens.
    let fallback = |bytes: &str| {
        format!(r#""byte_fallback": true, "vocab": {{"a": 0 {bytes}}}, "merges": []"#)
    };
    assert_eq!(open(&fallback(r#", "<0x63>": 1"#), "").encode("ac").unwrap(), [0, 1]);
    assert!(open(&fallback(""), "").encode("ac").is_err());
    // A decoder of bytes does not make bytes of the text.
    let json = r#"{"decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;
    fs::write(&path, json).unwrap();
    let error = Tokenizer::open(&path).unwrap().encode("a\u{e9}b").unwrap_err().to_string();
    assert!(error.starts_with("character '\u{e9}' of the text is no token"), "{error}");
    // What a normalizer changes is looked up as it is then.
    let json = json.replace(r#"{"decoder""#, r#"{"normalizer": {"type": "Lowercase"}, "decoder""#);
    fs::write(&path, json).unwrap();
    assert_eq!(Tokenizer::open(&path).unwrap().encode("ABa").unwrap(), [0, 1, 0]);
}

#[test]
fn an_added_token_has_the_id_its_file_says() {
    let json = r#"{
        "added_tokens": [{"id": 9, "content": "<s>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    }"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json).unwrap();
    let error = Tokenizer::open(&path).unwrap_err().to_string();
    let expected = "tokenizer.json: added token \"<s>\" has id 9; after the 1 tokens of the model \
                    it can only be 1";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn clones_share_one_vocabulary_between_threads() {
    let tokenizer = Tokenizer::from(vector_vocab());
    let (text, ids) = VECTORS[0];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let tokenizer = tokenizer.clone();
            scope.spawn(move || assert_eq!(tokenizer.encode(text).unwrap(), ids));
        }
    });
    assert_eq!(tokenizer.kind().to_string(), "rwkv-world");
    assert!(tokenizer.world().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_comes_back(text in "\\PC{0,40}|[ a-zTH<>'\"0-9\n]{0,80}") {
        let tokenizer = Tokenizer::from(vector_vocab());
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.into_bytes());
    }

    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let vocab = vector_vocab();
        let ids = vocab.encode_bytes(&bytes).unwrap();
        prop_assert_eq!(vocab.decode(&ids).unwrap(), bytes);
    }

    #[test]
    fn any_vocabulary_survives_a_gguf_file(
        tokens in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 1..12), 1..40)
    ) {
        let lines = tokens.iter().zip(1..).map(|(token, id)| {
            let escaped: String = token.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("{id} b'{escaped}' {}\n", token.len())
        });
        let vocab = read_vocab(lines.collect::<String>().as_bytes()).unwrap();
        let (texts, types) = vocab.gguf_tokens(64).unwrap();
        let again = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &texts, &types).unwrap();
        prop_assert_eq!(again.n_tokens(), tokens.len() + 1);
        for (token, id) in tokens.iter().zip(1..) {
            prop_assert_eq!(&again.decode(&[id]).unwrap(), token);
            prop_assert_eq!(again.encode_bytes(token).unwrap(), [id]);
        }
        prop_assert_eq!(again.gguf_tokens(64).unwrap(), (texts, types));
    }

    #[test]
    fn no_vocabulary_file_panics(content in "(1 b?['\"][a\\\\xu0-9'\"]{0,6}['\"] [0-9]\r?\n){0,3}") {
        let _ = read_vocab(content.as_bytes());
    }
}

/// Texts of the golden file with their ids, and the bytes of each id met.
fn golden(data: &Path) -> serde_json::Value {
    let content = fs::read(data.join("data/tokenizer_golden.json")).unwrap();
    serde_json::from_slice(&content).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2).map(|i| &hex[i..i + 2]);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

#[test]
fn golden_world_ids() {
    let Some(data) = variable("RWKVQ_TEST_DATA") else { return };
    let golden = golden(&data);
    let items = golden["items"].as_array().unwrap();
    // The longest match among all tokens is the longest among those of the golden file.
    let mut tokens = BTreeMap::new();
    for item in items {
        let hex = item["world_tokens_hex"].as_array().unwrap().iter();
        let bytes = hex.map(|hex| from_hex(hex.as_str().unwrap()));
        tokens.extend(ids(&item["world_ids"]).into_iter().zip(bytes));
    }
    let mut vocabs = vec![sparse_vocab(&tokens)];
    if let Some(path) = variable("RWKVQ_WORLD_VOCAB") {
        vocabs.push(WorldVocab::from_file(&path).unwrap());
    }
    for (vocab, item) in vocabs.iter().flat_map(|vocab| items.iter().map(move |i| (vocab, i))) {
        let text = item["text"].as_str().unwrap();
        assert_eq!(vocab.encode_bytes(text.as_bytes()).unwrap(), ids(&item["world_ids"]), "{text}");
    }
    println!("{} texts, {} vocabularies", items.len(), vocabs.len());
}

#[test]
fn golden_gpt2_ids() {
    let Some(data) = variable("RWKVQ_TEST_DATA") else { return };
    let tokenizers = ["", "encoder.json"]
        .map(|name| Tokenizer::open(&data.join("data/gpt2").join(name)).unwrap());
    for tokenizer in &tokenizers {
        assert_eq!((tokenizer.kind(), tokenizer.n_tokens()), (TokenizerKind::Gpt2, 50257));
    }
    for item in golden(&data)["items"].as_array().unwrap() {
        let text = item["text"].as_str().unwrap();
        let expected = ids(&item["gpt2_ids"]);
        assert_eq!(tokenizers[0].encode(text).unwrap(), expected, "{text}");
        assert_eq!(tokenizers[0].decode(&expected).unwrap(), text.as_bytes());
    }
}

#[test]
fn every_mrpc_sentence_comes_back() {
    let Some(data) = variable("RWKVQ_TEST_DATA") else { return };
    let world = data.join("checkpoints/tiny-random-finch");
    let tokenizers = [world, data.join("data/gpt2")].map(|path| Tokenizer::open(&path).unwrap());
    let mut n_sentences = 0;
    for split in ["train", "dev", "test"] {
        let path = data.join(format!("data/mrpc/hf/{split}.tsv"));
        for line in fs::read_to_string(path).unwrap().lines().skip(1) {
            for sentence in line.split('\t').skip(3) {
                for tokenizer in &tokenizers {
                    let ids = tokenizer.encode(sentence).unwrap();
                    assert_eq!(tokenizer.decode(&ids).unwrap(), sentence.as_bytes());
                }
                n_sentences += 1;
            }
        }
    }
    assert_eq!(n_sentences, 2 * 5801);
}

#[test]
fn the_real_vocabulary() {
    let Some(path) = variable("RWKVQ_WORLD_VOCAB") else { return };
    let vocab = WorldVocab::from_file(&path).unwrap();
    assert_eq!((vocab.n_tokens(), vocab.missing_bytes()), (65530, vec![]));
    for (text, ids) in VECTORS {
        assert_eq!(vocab.encode_bytes(text.as_bytes()).unwrap(), ids, "{text:?}");
    }
    let (texts, types) = vocab.gguf_tokens(65536).unwrap();
    assert_eq!(texts.iter().map(String::len).sum::<usize>(), 577_998);
    let again = WorldVocab::from_gguf_tokens(Path::new("m.gguf"), &texts, &types).unwrap();
    for id in 1..65530 {
        let bytes = vocab.decode(&[id]).unwrap();
        assert_eq!(again.decode(&[id]).unwrap(), bytes);
        assert_eq!(again.encode_bytes(&bytes).unwrap(), [id]);
    }
}
