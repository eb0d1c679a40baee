//! `embed`: the safetensors file it writes, and the warning about another tokenizer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rwkvq::checkpoint::random::{self, Spec};
use rwkvq::Silent;
use serde_json::Value;

const TEXTS: &str = "The ferry leaves at noon.\nSnow fell overnight.\nshort\n";

struct World {
    home: tempfile::TempDir,
}

impl World {
    /// A model of two layers and three texts.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let spec = Spec { n_layer: 2, ..Spec::default() };
        random::write(&home.path().join("checkpoint"), &spec, &Silent).unwrap();
        std::fs::write(home.path().join("texts.txt"), TEXTS).unwrap();
        let world = Self { home };
        let args = ["convert", "checkpoint", "--preset", "f32", "-o", "model.gguf"];
        assert!(world.run(&args).status.success());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rwkvq"));
        command.current_dir(self.home.path()).args(args).output().unwrap()
    }

    fn embed(&self, args: &[&str]) -> String {
        let base = ["embed", "model.gguf", "--input", "texts.txt", "--layers", "0,1,final"];
        let output = self.run(&[&base[..], args].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        stderr
    }
}

#[test]
fn safetensors_hold_the_numbers_of_the_json_lines() {
    let world = World::new();
    world.embed(&["-o", "out.jsonl"]);
    world.embed(&["-o", "out.safetensors"]);
    world.embed(&["-o", "other", "--format", "safetensors"]);
    let bytes = std::fs::read(world.path("out.safetensors")).unwrap();
    assert!(bytes == std::fs::read(world.path("other")).unwrap());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor("embeddings").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &[3, 3, 64][..]));
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["layers"], "0,1,final");
    let found: Vec<f32> =
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let lines = std::fs::read_to_string(world.path("out.jsonl")).unwrap();
    let mut expected = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for layer in ["0", "1", "final"] {
            let values = line["embeddings"][layer].as_array().unwrap();
            expected.extend(values.iter().map(|value| value.as_f64().unwrap() as f32));
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn another_tokenizer_is_taken_with_a_warning_if_its_ids_differ() {
    let world = World::new();
    let own = world.path("checkpoint");
    let own = own.to_str().unwrap();
    assert_eq!(world.embed(&["-o", "own.jsonl"]), "");
    // The same vocabulary by its path: the same ids, nothing to say.
    assert_eq!(world.embed(&["-o", "same.jsonl", "--tokenizer", own]), "");
    write_gpt2(&world.path("gpt2"));
    let warning = world.embed(&["-o", "gpt2.jsonl", "--tokenizer", "gpt2", "--token-ids"]);
    assert!(warning.starts_with("warning: the gpt2 tokenizer does not give"), "{warning}");
    assert_eq!(warning.lines().count(), 1);
    let lines = std::fs::read_to_string(world.path("gpt2.jsonl")).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    // One id a byte, the id being its place in the alphabet: "T" is 84 - 33.
    assert_eq!(first["token_ids"][0].as_u64(), Some(51));
    assert_eq!(first["n_tokens"].as_u64(), Some(25));
    // The same in a report.
    std::fs::write(world.path("pairs.tsv"), "1\ta b\ta c\n0\tone\ttwo\n1\tx\ty\n").unwrap();
    for (tokenizer, kind, matches) in [("gpt2", "gpt2", false), (own, "rwkv-world", true)] {
        let args =
            ["eval", "model.gguf", "--dataset", "pairs.tsv", "--json", "--tokenizer", tokenizer];
        let output = world.run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let info = &report["runs"][0]["tokenizer"];
        assert_eq!((&info["kind"], &info["matches_model"]), (&kind.into(), &matches.into()));
        let warnings = report["warnings"].to_string();
        assert_eq!(warnings.contains("does not give the token ids"), !matches, "{warnings}");
    }
}

/// GPT-2's format without a single merge: every byte is a token.
fn write_gpt2(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !printable(*byte)).zip(256..).map(|(_, code)| code);
    let alphabet = (0..256).filter(|byte| printable(*byte)).chain(others);
    let vocab: serde_json::Map<String, Value> = alphabet
        .zip(0..)
        .map(|(code, id): (u32, u32)| (char::from_u32(code).unwrap().to_string(), id.into()))
        .collect();
    std::fs::write(folder.join("vocab.json"), Value::Object(vocab).to_string()).unwrap();
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\n").unwrap();
}
