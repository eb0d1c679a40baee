//! Holds the layers of the crate: which room may use which, and where `unsafe` may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Rooms of `src/` and what each uses, exactly: a path that is not listed fails the test, and so
/// does a listed one that no file uses.
const ROOMS: [(&str, &[&str]); 25] = [
    ("error", &[]),
    ("shape", &[]),
    ("progress", &[]),
    ("hub", &["error", "progress"]),
    ("mmap", &["error"]),
    ("simd", &[]),
    // Products over the blocks of a file; ggml's graphs run them as operations of their own.
    ("matmul", &["simd"]),
    // What stands between the products, likewise.
    ("rowwise", &["simd"]),
    ("ggml", &["error", "matmul", "mmap", "rowwise", "shape"]),
    // Memory of a GPU as its own driver counts it.
    ("driver", &["ggml"]),
    ("quant", &["ggml", "simd"]),
    ("tokenizer", &["error"]),
    ("checkpoint", &["error", "ggml", "mmap", "progress", "shape"]),
    ("gguf", &["error", "ggml", "mmap", "shape"]),
    // What a model measures and conversion uses; knows neither.
    ("imatrix", &["error", "ggml", "gguf", "mmap", "shape"]),
    ("arch", &["error", "shape"]),
    ("recipe", &["error", "ggml", "shape"]),
    (
        "convert",
        &[
            "arch",
            "checkpoint",
            "error",
            "ggml",
            "gguf",
            "imatrix",
            "mmap",
            "progress",
            "quant",
            "recipe",
            "tokenizer",
        ],
    ),
    ("model", &["arch", "error", "ggml", "gguf", "mmap", "shape", "tokenizer"]),
    ("embed", &["error", "model", "tokenizer"]),
    ("calibrate", &["error", "imatrix", "model", "progress"]),
    ("eval", &["driver", "embed", "error", "ggml", "model", "progress", "tokenizer"]),
    ("bench", &["embed", "error", "eval", "ggml", "gguf", "matmul", "model", "progress"]),
    // A report as pictures, and as a page with them in it.
    ("figures", &["error", "eval"]),
    ("page", &["error", "eval", "figures"]),
];

/// Places that may say `unsafe`.
const UNSAFE: [&str; 3] = ["ggml", "mmap", "simd"];

/// Modules that read what anyone may have written.
const READERS: [&str; 10] = [
    "arch/mod.rs",
    "checkpoint/mod.rs",
    "eval/baselines.rs",
    "eval/dataset.rs",
    "eval/kept.rs",
    "eval/report.rs",
    "gguf/mod.rs",
    "imatrix/mod.rs",
    "recipe/mod.rs",
    "tokenizer/mod.rs",
];

#[test]
fn rooms_use_what_they_may() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources() {
        let used = found.entry(file.room.clone()).or_default();
        for other in crate_paths(&file.code) {
            let place = file.path.display();
            assert!(
                ROOMS.iter().any(|(room, _)| *room == other),
                "{place}: crate::{other} is no room; name the room it comes from"
            );
            assert!(
                other == file.room || may(&file.room).contains(&other.as_str()),
                "{place}: {} may not use {other}",
                file.room
            );
            used.insert(other);
        }
        used.remove(&file.room);
    }
    for (room, may) in ROOMS {
        let used: Vec<&str> = found[room].iter().map(String::as_str).collect();
        assert_eq!(used, may, "{room}: the table allows what no file needs");
    }
    assert_eq!(found.len(), ROOMS.len());
}

/// `super` is the other way out of a room: up to the root of the crate and down again.
#[test]
fn no_path_climbs_out_of_its_room() {
    for Source { path, code, depth, .. } in sources() {
        let (mut braces, mut steps) = (Vec::new(), 0);
        for (i, word) in code.iter().enumerate() {
            match word.as_str() {
                "{" => braces.push(i >= 2 && code[i - 2] == "mod"),
                "}" => drop(braces.pop()),
                "super" => steps += 1,
                ":" => {}
                _ => steps = 0,
            }
            let inner = braces.iter().filter(|is_module| **is_module).count();
            assert!(steps < depth + inner, "{}: super leaves its room", path.display());
        }
    }
}

/// Each room uses earlier ones only: no two depend on each other.
#[test]
fn the_table_has_no_circle() {
    for (i, (room, may)) in ROOMS.iter().enumerate() {
        for other in *may {
            let at = ROOMS.iter().position(|(name, _)| name == other);
            assert!(at.is_some_and(|at| at < i), "{room} uses {other}, which comes after it");
        }
    }
}

/// The two halves meet in the file only.
#[test]
fn the_halves_do_not_know_each_other() {
    let (left, right) = (reached_from("convert"), reached_from("eval"));
    for room in ["model", "embed", "eval"] {
        assert!(!left.contains(room), "convert reaches {room}");
    }
    for room in ["checkpoint", "recipe", "convert"] {
        assert!(!right.contains(room), "eval reaches {room}");
    }
}

#[test]
fn unsafe_code_stays_where_it_may_be() {
    let mut places = BTreeSet::new();
    for Source { room, path, code, .. } in sources() {
        if code.iter().any(|word| word == "unsafe") {
            assert!(UNSAFE.contains(&room.as_str()), "{} has unsafe code", path.display());
            places.insert(room);
        }
    }
    assert_eq!(places.into_iter().collect::<Vec<_>>(), UNSAFE);
    // What the compiler holds: denied for the crate, allowed for these modules by name.
    let lib = fs::read_to_string(source_dir().join("lib.rs")).unwrap();
    assert!(lib.contains("#![deny(unsafe_code)]"));
    let allowed: Vec<&str> = lib
        .split("#[allow(unsafe_code)]")
        .skip(1)
        .filter_map(|rest| rest.split("mod ").nth(1)?.split(';').next())
        .collect();
    assert_eq!(allowed, UNSAFE);
}

/// Clippy holds it, in all that is below these modules. What must be, each place argues for.
#[test]
fn readers_deny_what_can_panic() {
    let denied = "#![cfg_attr(not(test),deny(clippy::arithmetic_side_effects,\
        clippy::expect_used,clippy::indexing_slicing,clippy::panic,clippy::unwrap_used))]";
    for reader in READERS {
        let text = fs::read_to_string(source_dir().join(reader)).unwrap();
        let text: String = text.split_whitespace().collect();
        assert!(text.contains(denied), "{reader}");
    }
}

/// gguf-rs switches on that serde_json keeps numbers as text, for the whole build. A struct that
/// serde reads by way of its own buffer then gets no number any more: "invalid type: map".
#[test]
fn serde_buffers_no_numbers() {
    let buffers = |word: &String| matches!(word.as_str(), "flatten" | "tag" | "untagged");
    for Source { path, code, .. } in sources() {
        for rest in code.split(|word| word == "#") {
            let Some(rest) = rest.strip_prefix(&words(["[", "serde"])) else { continue };
            let attribute = rest.split(|word| word == "]").next().unwrap_or_default();
            assert!(!attribute.iter().any(buffers), "{}: {attribute:?}", path.display());
        }
    }
}

#[test]
fn the_scan_sees_every_way_to_name_a_room() {
    let code = tokens(
        "use crate::a; use crate::b::X; use crate::{c::{self, Y}, d, e::Z};
         fn f() -> crate::g::T { crate :: h::f() }",
    );
    assert_eq!(crate_paths(&code), ["a", "b", "c", "d", "e", "g", "h"]);
    let quiet = tokens(
        "//! crate::a
         /// [crate::b]
         fn f() { \"crate::c\"; } /* crate::d */ // crate::e
         #[cfg(test)] mod tests { use crate::f; }
         #[cfg(all(test, unix))] use crate::g;
         fn after() {}",
    );
    assert!(crate_paths(&quiet).is_empty(), "{quiet:?}");
    assert!(quiet.contains(&"after".to_owned()));
}

/// Rooms that `room` may use.
fn may(room: &str) -> &'static [&'static str] {
    let row = ROOMS.iter().find(|(name, _)| *name == room);
    row.unwrap_or_else(|| panic!("{room} is not in the table")).1
}

/// `room` and all that it uses, by whatever way.
fn reached_from(room: &str) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    let mut open = vec![room];
    while let Some(room) = open.pop() {
        open.extend(may(room));
        all.insert(room);
    }
    all
}

/// A file of `src/`.
struct Source {
    room: String,
    path: PathBuf,
    /// Modules from the root down to this one.
    depth: usize,
    /// Its tokens, without comments and tests; a string is one token.
    code: Vec<String>,
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of `src/` but lib.rs and those that are tests as a whole.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![source_dir()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.retain(|path| !path.ends_with("src/lib.rs") && !path.ends_with("tests.rs"));
    files.sort();
    files.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Source {
    let inside = path.strip_prefix(source_dir()).unwrap().with_extension("");
    let modules: Vec<_> = inside.iter().filter(|part| *part != "mod").collect();
    let (room, depth) = (modules[0].to_string_lossy().into_owned(), modules.len());
    let code = tokens(&fs::read_to_string(&path).unwrap());
    Source { room, path, depth, code }
}

fn words<const N: usize>(words: [&str; N]) -> [String; N] {
    words.map(str::to_owned)
}

/// First segment of every path that starts with `crate`, lists in braces taken apart.
fn crate_paths(code: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for i in 0..code.len() {
        if !code[i..].starts_with(&words(["crate", ":", ":"])) {
            continue;
        }
        match code.get(i + 3).map(String::as_str) {
            Some("{") => found.extend(first_segments(&code[i + 4..])),
            name => found.extend(name.map(str::to_owned)),
        }
    }
    found
}

/// First names of the comma-separated paths up to the brace that closes the list.
fn first_segments(code: &[String]) -> Vec<String> {
    let (mut depth, mut at_start, mut found) = (0, true, Vec::new());
    for word in code {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," => at_start = depth == 0,
            _ if at_start => found.push(word.clone()),
            _ => {}
        }
        at_start &= word == ",";
    }
    found
}

/// Tokens of `code`, as the compiler's lexer sees them, without what is compiled for tests only.
fn tokens(code: &str) -> Vec<String> {
    let stream: TokenStream = code.parse().expect("it compiles");
    let mut all = Vec::new();
    flatten(stream, &mut all);
    all
}

fn flatten(stream: TokenStream, all: &mut Vec<String>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let is_test = |tree: &TokenTree| {
            let text = tree.to_string().replace(' ', "");
            text == "[cfg(test)]" || text.starts_with("[cfg(all(test,")
        };
        if tree.to_string() == "#" && trees.peek().is_some_and(is_test) {
            // The attribute, then its item: up to a semicolon or the end of a body.
            let ends = |tree: &TokenTree| match tree {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                tree => tree.to_string() == ";",
            };
            trees.by_ref().find(ends);
            continue;
        }
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                all.push(open.to_owned());
                flatten(group.stream(), all);
                all.push(close.to_owned());
            }
            tree => all.push(tree.to_string()),
        }
    }
}
