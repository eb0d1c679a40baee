//! Checkpoints are read as they were written: every name, shape and weight.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::checkpoint::Checkpoint;
use rwkvq::ggml::TensorType;
use rwkvq::Error;
use safetensors::tensor::{serialize_to_file, Dtype, TensorView};
use safetensors::SafeTensors;

/// Name, type, shape (slowest first), weights.
type Tensor = (String, Dtype, Vec<usize>, Vec<f32>);

fn tensor(name: &str, dtype: Dtype, shape: &[usize], rng: &mut ChaCha8Rng) -> Tensor {
    let n = shape.iter().product();
    (name.into(), dtype, shape.into(), (0..n).map(|_| rng.random_range(-3.0..3.0)).collect())
}

fn bytes(dtype: Dtype, weights: &[f32]) -> Vec<u8> {
    let encode = |&w: &f32| match dtype {
        Dtype::F16 => f16::from_f32(w).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(w).to_le_bytes().to_vec(),
        _ => w.to_le_bytes().to_vec(),
    };
    weights.iter().flat_map(encode).collect()
}

/// What is left of a weight once it is stored.
fn rounded(dtype: Dtype, weight: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(weight).to_f32(),
        Dtype::BF16 => bf16::from_f32(weight).to_f32(),
        _ => weight,
    }
}

/// Writes a file with the safetensors crate.
fn write(path: &Path, tensors: &[Tensor]) {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, ty, _, w)| bytes(*ty, w)).collect();
    let views = tensors.iter().zip(&data).map(|((name, dtype, shape, _), data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    serialize_to_file(views, Some(about), path).unwrap();
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
}

fn check(checkpoint: &Checkpoint, (name, dtype, shape, weights): &Tensor) {
    let index = checkpoint.find(name).unwrap_or_else(|| panic!("{name} is there"));
    let entry = &checkpoint.tensors()[index];
    let mut torch = entry.shape.dims().to_vec();
    torch.reverse();
    assert_eq!(torch, if shape.is_empty() { vec![1] } else { shape.clone() }, "{name}");
    let expected: Vec<f32> = weights.iter().map(|&w| rounded(*dtype, w)).collect();
    let mut out = vec![0.0; expected.len()];
    checkpoint.read_f32(index, 0, &mut out).unwrap();
    assert_eq!(out, expected, "{name}");
    let mut raw = vec![0; entry.bytes as usize];
    checkpoint.read_bytes(index, 0, &mut raw).unwrap();
    assert_eq!(raw, bytes(*dtype, weights), "{name}");
}

fn mixed(rng: &mut ChaCha8Rng) -> Vec<Tensor> {
    vec![
        tensor("rwkv.ln_out.weight", Dtype::BF16, &[6], rng),
        tensor("rwkv.blocks.2.w", Dtype::F16, &[4, 6], rng),
        tensor("rwkv.blocks.10.w", Dtype::F32, &[5, 2, 3], rng),
        tensor("head.weight", Dtype::BF16, &[1, 1, 7], rng),
        tensor("scalar", Dtype::F32, &[], rng),
        // More than one buffer of weights.
        tensor("rwkv.embeddings.weight", Dtype::F16, &[40, 1000], rng),
    ]
}

#[test]
fn a_folder_with_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("v6-Tiny-HF");
    std::fs::create_dir(&folder).unwrap();
    let tensors = mixed(&mut ChaCha8Rng::seed_from_u64(1));
    write(&folder.join("model.safetensors"), &tensors);
    for (name, text) in [
        ("config.json", r#"{"hidden_size": 6, "layer_norm_epsilon": 1e-5}"#),
        ("tokenizer_config.json", r#"{"add_bos_token": false}"#),
        ("generation_config.json", r#"{"top_p": 0.25}"#),
        ("rwkv_vocab_v20230424.txt", "1 'a' 1\n"),
        ("README.md", "not read"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }

    let checkpoint = Checkpoint::open(&folder).unwrap();
    assert_eq!((checkpoint.path(), checkpoint.name()), (folder.as_path(), "v6-Tiny-HF"));
    let config = checkpoint.config().unwrap();
    assert_eq!(config["hidden_size"].as_u64(), Some(6));
    assert_eq!(config["layer_norm_epsilon"].as_f64(), Some(1e-5));
    assert_eq!(checkpoint.tokenizer_config().unwrap()["add_bos_token"].as_bool(), Some(false));
    assert_eq!(checkpoint.generation_config().unwrap()["top_p"].as_f64(), Some(0.25));
    assert_eq!(checkpoint.config_path().unwrap(), folder.join("config.json"));
    assert_eq!(checkpoint.vocab_path().unwrap(), folder.join("rwkv_vocab_v20230424.txt"));
    let inputs = [
        "model.safetensors",
        "config.json",
        "tokenizer_config.json",
        "generation_config.json",
        "rwkv_vocab_v20230424.txt",
    ];
    assert_eq!(checkpoint.inputs(), inputs.map(|name| folder.join(name)));
    // By code point: 10 before 2.
    let sorted = [
        "head.weight",
        "rwkv.blocks.10.w",
        "rwkv.blocks.2.w",
        "rwkv.embeddings.weight",
        "rwkv.ln_out.weight",
        "scalar",
    ];
    assert_eq!(names(&checkpoint), sorted);
    tensors.iter().for_each(|tensor| check(&checkpoint, tensor));
    assert_eq!(checkpoint.find("absent"), None);
}

#[test]
fn a_single_file_with_its_config_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("finch.safetensors");
    let tensors = mixed(&mut ChaCha8Rng::seed_from_u64(2));
    write(&path, &tensors);
    assert!(Checkpoint::open(&path).unwrap().config().is_none());
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.name(), "finch");
    assert!(checkpoint.config().is_some_and(|config| config.is_empty()));
    assert_eq!(checkpoint.inputs(), [path, dir.path().join("config.json")]);
    tensors.iter().for_each(|tensor| check(&checkpoint, tensor));
    // What is read is told by the content, not by the name.
    let renamed = dir.path().join("finch.bin");
    std::fs::rename(checkpoint.path(), &renamed).unwrap();
    assert_eq!(Checkpoint::open(&renamed).unwrap().tensors().len(), tensors.len());
}

#[test]
fn shards_with_and_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let first = vec![tensor("b", Dtype::F32, &[3], rng), tensor("z", Dtype::BF16, &[2, 2], rng)];
    let second = vec![tensor("a", Dtype::F16, &[4], rng)];
    let files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    write(&dir.path().join(files[0]), &first);
    write(&dir.path().join(files[1]), &second);
    let read = |n_inputs: usize| {
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(names(&checkpoint), ["b", "z", "a"], "by file first");
        first.iter().chain(&second).for_each(|tensor| check(&checkpoint, tensor));
        assert_eq!(checkpoint.file_of(2), dir.path().join(files[1]));
        assert_eq!(checkpoint.inputs().len(), n_inputs);
    };
    read(2);
    let index = format!(
        r#"{{"metadata": {{"total_size": 28.0}}, "weight_map": {{"a": "{1}", "b": "{0}", "z": "{0}"}}}}"#,
        files[0], files[1]
    );
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    read(3);
}

#[test]
fn pieces_are_read_by_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let tensors = [tensor("w", dtype, &[50_000], &mut ChaCha8Rng::seed_from_u64(4))];
        write(&path, &tensors);
        let expected: Vec<f32> = tensors[0].3.iter().map(|&w| rounded(dtype, w)).collect();
        let checkpoint = Checkpoint::open(&path).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (checkpoint, expected) = (&checkpoint, &expected);
                scope.spawn(move || {
                    for (start, n) in [(0, 1), (1, 8191), (8191, 8194), (49_999, 1), (50_000, 0)] {
                        let start = if n > 1 { start + thread } else { start };
                        let mut out = vec![f32::NAN; n];
                        checkpoint.read_f32(0, start, &mut out).unwrap();
                        assert_eq!(out, expected[start..start + n], "{dtype:?} {start} {n}");
                    }
                });
            }
        });
        for (start, n) in [(49_999, 2), (50_001, 0), (usize::MAX, 1), (0, 50_001)] {
            let error = checkpoint.read_f32(0, start, &mut vec![0.0; n]).unwrap_err();
            assert!(matches!(error, Error::Argument { .. }), "{start} {n}: {error}");
        }
    }
}

#[test]
fn a_file_that_is_cut_while_open_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    write(&path, &[tensor("w", Dtype::F32, &[5000], &mut ChaCha8Rng::seed_from_u64(5))]);
    let checkpoint = Checkpoint::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let error = checkpoint.read_f32(0, 0, &mut [0.0; 5000]).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert_eq!(
        error.to_string(),
        format!("{}: cut while it was read, inside tensor \"w\"", path.display())
    );
}

/// Our reader and the safetensors crate agree on the checkpoints at hand.
#[test]
fn real_checkpoints_read_as_the_safetensors_crate_reads_them() {
    let Some(data) = std::env::var_os("RWKVQ_TEST_DATA").map(PathBuf::from) else {
        println!("skipped: RWKVQ_TEST_DATA is not set");
        return;
    };
    for name in ["tiny-random-finch", "tiny-trained-6v0"] {
        let folder = data.join("checkpoints").join(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        assert_eq!(checkpoint.name(), name);
        assert!(checkpoint.config().is_some() && checkpoint.vocab_path().is_some());
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(checkpoint.tensors().len(), theirs.len());
        for (index, tensor) in checkpoint.tensors().iter().enumerate() {
            let view = theirs.tensor(&tensor.name).unwrap();
            assert_eq!(view.dtype(), Dtype::F32);
            assert_eq!(tensor.ty, TensorType::F32);
            let mut torch = tensor.shape.dims().to_vec();
            torch.reverse();
            assert_eq!(torch, view.shape(), "{}", tensor.name);
            let mut raw = vec![0; tensor.bytes as usize];
            checkpoint.read_bytes(index, 0, &mut raw).unwrap();
            assert!(raw == view.data(), "{}", tensor.name);
        }
    }
}
