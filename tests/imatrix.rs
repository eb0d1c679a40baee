//! Importance matrices: what is measured is what an independent reference and llama.cpp measure;
//! files are read back, broken ones refused; and convert quantizes with exactly these weights.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::bytes;
use common::fixture::{data_dir, fixture_dir};
use common::reference::Reference;
use rwkvq::calibrate::{self, CollectOptions};
use rwkvq::convert::{self, ConvertOptions, ConvertReport, Job};
use rwkvq::ggml::{self, TensorType};
use rwkvq::gguf::{GgufFile, Layout, Value, Writer};
use rwkvq::imatrix::{Entry, Imatrix};
use rwkvq::model::Model;
use rwkvq::recipe::Recipe;
use rwkvq::{Error, Shape, Silent};
use tempfile::TempDir;

/// The committed checkpoint as a GGUF in f32.
fn fixture() -> (TempDir, Arc<Model>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fixture.gguf");
    convert(&path, "f32", None, 1).unwrap();
    let model = Model::open(&path).unwrap();
    (dir, Arc::new(model))
}

fn convert(
    path: &Path,
    preset: &str,
    imatrix: Option<&Imatrix>,
    n_threads: usize,
) -> rwkvq::Result<(Job, ConvertReport)> {
    let source = convert::open(fixture_dir(), None)?;
    let job = Job::weighted(source.as_ref(), &Recipe::open(preset)?, imatrix, path.into())?;
    let options = ConvertOptions { n_threads, measure_errors: true, ..Default::default() };
    let report = convert::run(source.as_ref(), std::slice::from_ref(&job), options, &Silent)?;
    Ok((job, report))
}

fn options(chunk_tokens: usize) -> CollectOptions {
    CollectOptions { chunk_tokens, head: true, n_threads: 2, dataset: "imatrix.txt".into() }
}

fn measured() -> Imatrix {
    let (_dir, model) = fixture();
    let tokens: Vec<u32> = (0..40).map(|i| 1 + i * 37 % 599).collect();
    calibrate::collect(&model, &tokens, &options(20), &Silent).unwrap()
}

/// GGUF name of the matrix called `name` in the checkpoint.
fn gguf_name(name: &str) -> String {
    if name == "head.weight" {
        return "output.weight".into();
    }
    let rest = name.strip_prefix("rwkv.blocks.").unwrap();
    let (il, leaf) = rest.split_once('.').unwrap();
    let leaf = leaf.trim_end_matches(".weight");
    let leaf = leaf.replace("attention.", "time_mix_").replace("feed_forward.", "channel_mix_");
    format!("blk.{il}.{}.weight", leaf.replace("time_maa_", "").replace("time_decay", "decay"))
}

/// Largest difference of two vectors, relative to the length of the first.
fn relative_difference(expected: &[f64], found: &[f64]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = length(&mut expected.iter().zip(found).map(|(a, b)| a - b));
    difference / length(&mut expected.iter().copied())
}

fn sums(imatrix: &Imatrix, name: &str) -> Vec<f64> {
    imatrix.entries[name].sums().iter().map(|&sum| f64::from(sum)).collect()
}

#[test]
fn every_matrix_is_measured_as_the_reference_measures_it() {
    let (_dir, model) = fixture();
    // 520 tokens a chunk: more than is computed at once. The last ten fill no chunk.
    for (chunk, n_tokens) in [(20, 70), (1, 3), (520, 530)] {
        let tokens: Vec<u32> = (0..n_tokens).map(|i| 1 + i * i % 599).collect();
        let found = calibrate::collect(&model, &tokens, &options(chunk), &Silent).unwrap();
        let reference = Reference::open(&fixture_dir());
        for chunk in tokens.chunks_exact(chunk) {
            reference.run(chunk);
        }
        let expected = reference.squares.borrow();
        assert_eq!(found.entries.len(), 8 * 12 + 1);
        assert_eq!(found.entries.len(), expected.len());
        assert_eq!((found.chunk_count, found.chunk_size), (n_tokens / chunk as u32, chunk as u32));
        for (name, expected) in expected.iter() {
            let entry = gguf_name(name);
            let difference = relative_difference(expected, &sums(&found, &entry));
            assert!(difference < 2e-4, "chunks of {chunk}: {entry}: {difference}");
            let planes = if entry.ends_with("time_mix_w2.weight") { 5 } else { 1 };
            let n = (found.chunk_count * found.chunk_size) as f32;
            assert_eq!(found.entries[&entry].counts(), vec![n; planes], "{entry}");
        }
    }
}

#[test]
fn without_the_head_only_the_layers_are_measured() {
    let (_dir, model) = fixture();
    let with = calibrate::collect(&model, &[1, 2, 3, 4], &options(2), &Silent).unwrap();
    let options = CollectOptions { head: false, ..options(2) };
    let mut without = calibrate::collect(&model, &[1, 2, 3, 4], &options, &Silent).unwrap();
    let head = with.entries["output.weight"].clone();
    without.entries.insert("output.weight".into(), head);
    assert_eq!(with, without);
}

#[test]
fn llama_cpp_measures_the_same() {
    let (_dir, model) = fixture();
    let text = std::fs::read_to_string(data_dir().join("imatrix.txt")).unwrap();
    let tokens = model.tokenizer().unwrap().encode(&text).unwrap();
    let ours = calibrate::collect(&model, &tokens, &options(32), &Silent).unwrap();
    let theirs = Imatrix::open(data_dir().join("fixture.imatrix.gguf")).unwrap();
    assert_eq!(ours.datasets, theirs.datasets);
    assert_eq!((ours.chunk_count, ours.chunk_size), (theirs.chunk_count, theirs.chunk_size));
    // It leaves out the second low-rank factor, whose products are narrower than 16 tokens there.
    let extra = ours.entries.keys().filter(|name| !theirs.entries.contains_key(*name));
    assert!(extra.clone().all(|name| name.ends_with("time_mix_w2.weight")));
    assert_eq!(extra.count(), 8);
    for (name, entry) in &theirs.entries {
        assert_eq!(ours.entries[name].counts(), entry.counts(), "{name}");
        let difference = relative_difference(&sums(&theirs, name), &sums(&ours, name));
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn the_older_form_has_the_same_weights() {
    let new = Imatrix::open(data_dir().join("fixture.imatrix.gguf")).unwrap();
    let old = Imatrix::open(data_dir().join("fixture.imatrix.dat")).unwrap();
    assert_eq!((&old.datasets, old.chunk_count), (&new.datasets, new.chunk_count));
    assert!(old.entries.keys().eq(new.entries.keys()));
    for (name, entry) in &new.entries {
        for (&new, &old) in entry.weights().iter().zip(&old.entries[name].weights()) {
            assert!((new - old).abs() <= 1e-6 * new.abs(), "{name}: {new} and {old}");
        }
    }
}

#[test]
fn a_written_file_reads_back_and_is_laid_out_as_llama_cpps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let golden = data_dir().join("fixture.imatrix.gguf");
    let theirs = Imatrix::open(&golden).unwrap();
    theirs.write(&path, false).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&golden).unwrap(), "other bytes");
    let refused = theirs.write(&path, false).unwrap_err();
    assert!(refused.to_string().contains("--overwrite"), "{refused}");
    let ours = measured();
    ours.write(&path, true).unwrap();
    let read = Imatrix::open(&path).unwrap();
    assert_eq!((&read.entries, &read.datasets), (&ours.entries, &ours.datasets));
}

#[test]
fn too_little_text_is_an_error() {
    let (_dir, model) = fixture();
    for (tokens, chunk) in [(&[1u32, 2][..], 3), (&[], 1), (&[1], 0)] {
        let error = calibrate::collect(&model, tokens, &options(chunk), &Silent).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
}

/// A GGUF imatrix of the given tensors, all data zero but for the bytes in `first`.
fn gguf(tensors: &[(&str, TensorType, &[usize])], first: f32, keys: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let metadata: Vec<(String, Value)> = keys
        .iter()
        .map(|&key| {
            let value = match key {
                "imatrix.datasets" => vec!["a".to_string()].into(),
                _ => Value::U32(1),
            };
            (key.into(), value)
        })
        .collect();
    let named = tensors.iter().map(|(name, ty, ne)| ((*name).into(), *ty, Shape::new(ne).unwrap()));
    let layout = Layout::new(&metadata, named.collect()).unwrap();
    let writer = Writer::create(&path, &layout, false).unwrap();
    for (i, tensor) in layout.tensors().iter().enumerate() {
        let mut data = vec![0; tensor.bytes as usize];
        if i == 0 {
            data[..4].copy_from_slice(&first.to_le_bytes());
        }
        writer.write_at(i, 0, &data).unwrap();
    }
    writer.finish().unwrap();
    Imatrix::open(&path).unwrap_err().to_string()
}

#[test]
fn broken_files_are_refused_and_name_the_entry() {
    use TensorType::{F16, F32};
    let keys = ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"];
    let sums = ("w.in_sum2", F32, &[4][..]);
    let counts = ("w.counts", F32, &[1][..]);
    let refuses = |message: String, expected: &str| {
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    };
    refuses(gguf(&[sums], 1.0, &keys), "entry \"w\": sums without counts");
    refuses(gguf(&[counts], 1.0, &keys), "entry \"w\": counts without sums");
    refuses(gguf(&[sums, ("w.counts", F32, &[3])], 1.0, &keys), "entry \"w\": 4 sums for 3 counts");
    refuses(gguf(&[("w.in_sum2", F16, &[4]), counts], 1.0, &keys), "expected f32, found f16");
    refuses(gguf(&[sums, counts], -1.0, &keys), "entry \"w\": number 0 is negative (-1)");
    refuses(gguf(&[counts, sums], -1.0, &keys), "entry \"w\": number 0 is negative (-1)");
    refuses(gguf(&[sums, counts], f32::NAN, &keys), "entry \"w\": number 0 is NaN");
    refuses(gguf(&[sums, counts], f32::INFINITY, &keys), "entry \"w\": number 0 is inf");
    refuses(gguf(&[("v", F32, &[4])], 1.0, &keys), "without entries");
    for missing in keys {
        let rest: Vec<_> = keys.into_iter().filter(|key| *key != missing).collect();
        refuses(gguf(&[sums, counts], 1.0, &rest), &format!("missing metadata key {missing:?}"));
    }
}

/// An older file of one entry.
fn legacy(name: &[u8], calls: i32, n: i32, sums: &[f32]) -> Vec<u8> {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    bytes.extend((name.len() as i32).to_le_bytes());
    bytes.extend(name);
    bytes.extend(calls.to_le_bytes());
    bytes.extend(n.to_le_bytes());
    sums.iter().for_each(|sum| bytes.extend(sum.to_le_bytes()));
    bytes
}

#[test]
fn broken_older_files_are_refused_and_name_the_entry() {
    let message = |bytes: &[u8]| {
        let (_dir, path) = bytes::file("imatrix.dat", bytes);
        Imatrix::open(&path).map(|_| ()).unwrap_err().to_string()
    };
    let refuses = |bytes: &[u8], expected: &str| {
        let message = message(bytes);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    };
    refuses(&legacy(b"w", 1, 2, &[1.0]), "entry \"w\": sums needs 8 bytes, 4 left");
    refuses(&legacy(b"w", 1, -2, &[1.0]), "entry \"w\": number of sums: -2");
    refuses(&legacy(b"w", 1, 0, &[]), "entry \"w\" has no sums");
    refuses(&legacy(b"w", -1, 1, &[1.0]), "entry \"w\": calls: -1");
    refuses(&legacy(b"w", 1, i32::MAX, &[1.0]), "entry \"w\": sums needs");
    refuses(&legacy(b"w", 1, 1, &[-1.0]), "entry \"w\": number 0 is negative");
    refuses(&legacy(b"w", 1, 1, &[f32::NAN]), "entry \"w\": number 0 is NaN");
    refuses(&legacy(&[0xff], 1, 1, &[1.0]), "not UTF-8");
    refuses(&legacy(b"", 1, 1, &[1.0]), "entry 1 has no name");
    refuses(&legacy(&[b'a'; 64], 1, 1, &[1.0]), "length 64 exceeds limit 63");
    refuses(&[0xff; 64], "number of entries: -1");
    refuses(&[0x7f; 64], "not an importance matrix");
    refuses(&[0; 64], "0 entries");
    let mut twice = legacy(b"w", 1, 1, &[1.0]);
    twice.extend(&legacy(b"w", 1, 1, &[1.0])[4..]);
    twice[0] = 2;
    refuses(&twice, "entry 2: duplicate name \"w\"");
    let mut more = legacy(b"w", 1, 1, &[1.0]);
    more.extend([1, 0, 0, 0, 0, 0, 0, 0, 9]);
    refuses(&more, "1 bytes after the end");
}

#[test]
fn no_cut_of_a_file_is_read_as_a_whole_one() {
    let whole = std::fs::read(data_dir().join("fixture.imatrix.dat")).unwrap();
    let n_entries = Imatrix::open(data_dir().join("fixture.imatrix.dat")).unwrap().entries.len();
    // After the entries: number of chunks, length of the name, name; each is optional.
    let name = "imatrix.txt".len();
    let (no_chunks, no_name) = (whole.len() - name - 8, whole.len() - name - 4);
    for end in (0..whole.len()).step_by(97).chain(no_chunks - 2..whole.len()) {
        let (_dir, path) = bytes::file("cut.dat", &whole[..end]);
        match Imatrix::open(&path) {
            Ok(read) => {
                assert!(end == no_chunks || end == no_name, "cut at {end} was accepted");
                assert_eq!(read.entries.len(), n_entries);
            }
            Err(error) => assert!(matches!(error, Error::Malformed { .. }), "{error}"),
        }
    }
}

/// Source weights of `name` in the fixture.
fn source_weights(name: &str) -> Vec<f32> {
    let source = convert::open(fixture_dir(), None).unwrap();
    let index = source.tensors().iter().position(|tensor| tensor.name == name).unwrap();
    let mut values = vec![0.0; source.tensors()[index].shape.n_elements()];
    source.read(index, 0, &mut values).unwrap();
    values
}

/// `name` quantized by ggml.
fn quantized(name: &str, ty: TensorType, n_cols: usize, weights: Option<&[f32]>) -> Vec<u8> {
    let values = source_weights(name);
    let mut out = vec![0; ty.row_bytes(n_cols).unwrap() * (values.len() / n_cols)];
    ggml::quantize(ty, &values, n_cols, weights, &mut out);
    out
}

#[test]
fn covered_tensors_are_quantized_with_their_weights_and_the_others_without() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.gguf");
    let mut imatrix = measured();
    imatrix.entries.remove("blk.1.time_mix_key.weight").unwrap();
    // No sign of a wrong file: the table is not multiplied with anything.
    let short = Entry::new(vec![1.0; 3], vec![1.0]).unwrap();
    imatrix.entries.insert("token_embd.weight".into(), short);
    convert(&path, "q4_k", Some(&imatrix), 2).unwrap();
    let file = GgufFile::open(&path).unwrap();
    // Rows of 64 and 224 do not fill q4_k.
    for (name, n_cols, covered) in [
        ("blk.0.time_mix_key.weight", 64, true),
        ("blk.1.time_mix_key.weight", 64, false),
        ("blk.7.channel_mix_value.weight", 224, true),
        ("output.weight", 64, true),
        ("token_embd.weight", 64, false),
    ] {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.ty, TensorType::Q5_0);
        let weights = covered.then(|| imatrix.entries[name].weights());
        let expected = quantized(name, TensorType::Q5_0, n_cols, weights.as_deref());
        assert!(file.data(tensor) == expected, "{name}: other bytes");
        let plain = quantized(name, TensorType::Q5_0, n_cols, None);
        assert_eq!(file.data(tensor) == plain, !covered, "{name}");
    }
}

#[test]
fn each_plane_of_a_tensor_is_quantized_with_its_own_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (path, preset) = (dir.path().join("q.gguf"), dir.path().join("p.json"));
    let text = r#"{"about": "", "file_type": 8, "layout": "quantized", "default": "f32", "rules": [
        {"tensors": "*.time_mix_w2.weight", "type": "q5_0", "why": ""}]}"#;
    std::fs::write(&preset, text).unwrap();
    let imatrix = measured();
    convert(&path, preset.to_str().unwrap(), Some(&imatrix), 2).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let name = "blk.3.time_mix_w2.weight";
    let (values, weights) = (source_weights(name), imatrix.entries[name].weights());
    assert_eq!(weights.len(), 5 * 32);
    let mut expected = Vec::new();
    for (values, weights) in values.chunks(values.len() / 5).zip(weights.chunks(32)) {
        let mut out = vec![0; 22 * values.len() / 32];
        ggml::quantize(TensorType::Q5_0, values, 32, Some(weights), &mut out);
        expected.extend(out);
    }
    assert!(file.data(file.tensor(name).unwrap()) == expected, "other bytes");
}

#[test]
fn metadata_says_which_matrix_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.gguf");
    let mut imatrix = measured();
    imatrix.path = "/some/where/m.imatrix.gguf".into();
    imatrix.datasets = vec!["é".repeat(80), "b".into()];
    convert(&path, "q5_k", Some(&imatrix), 1).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let last: Vec<_> = file.metadata().iter().rev().take(5).rev().cloned().collect();
    let expected: Vec<(String, Value)> = vec![
        ("general.file_type".into(), Value::U32(16)),
        ("quantize.imatrix.file".into(), "m.imatrix.gguf".into()),
        ("quantize.imatrix.dataset".into(), "é".repeat(63).as_str().into()),
        ("quantize.imatrix.entries_count".into(), Value::U32(97)),
        ("quantize.imatrix.chunks_count".into(), Value::U32(2)),
    ];
    assert_eq!(last, expected);
    (imatrix.datasets, imatrix.chunk_count) = (vec![], 0);
    let other = dir.path().join("r.gguf");
    convert(&other, "q5_k", Some(&imatrix), 1).unwrap();
    let file = GgufFile::open(&other).unwrap();
    let keys: Vec<_> = file.metadata().iter().rev().take(2).map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["quantize.imatrix.entries_count", "quantize.imatrix.file"]);
}

#[test]
fn an_entry_of_another_length_is_an_error_that_names_the_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let mut imatrix = measured();
    let wrong = Entry::new(vec![1.0; 32], vec![1.0]).unwrap();
    imatrix.entries.insert("blk.2.time_mix_gate.weight".into(), wrong);
    let error = convert(&dir.path().join("q.gguf"), "q4_k", Some(&imatrix), 1).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("blk.2.time_mix_gate.weight") && message.contains("64"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something was written");
}

#[test]
fn types_that_need_weights_get_them_or_are_refused() {
    let dir = common::fixture::random_checkpoint(&rwkvq::checkpoint::random::Spec {
        n_layer: 1,
        n_embd: 256,
        head_size: 64,
        ..common::fixture::fixture_spec()
    });
    let preset = dir.path().join("iq2.json");
    let text = r#"{"about": "", "file_type": 19, "layout": "quantized", "default": "f32", "rules": [
        {"tensors": "*.time_mix_key.weight", "type": "iq2_xxs", "why": ""}]}"#;
    std::fs::write(&preset, text).unwrap();
    let recipe = Recipe::open(preset.to_str().unwrap()).unwrap();
    let source = convert::open(dir.path(), None).unwrap();
    let out = dir.path().join("q.gguf");
    let refused = Job::new(source.as_ref(), &recipe, out.clone()).unwrap_err().to_string();
    assert!(refused.starts_with("blk.0.time_mix_key.weight: iq2_xxs needs"), "{refused}");
    let name = "blk.0.time_mix_key.weight";
    let sums: Vec<f32> = (0..256).map(|i| 0.5 + (i % 7) as f32).collect();
    let mut imatrix = measured();
    let huge = Entry::new(vec![1e30; 256], vec![1.0]).unwrap();
    imatrix.entries = [(name.into(), huge)].into();
    let refused = Job::weighted(source.as_ref(), &recipe, Some(&imatrix), out.clone()).unwrap_err();
    assert!(refused.to_string().contains("is too large for iq2_xxs"), "{refused}");
    imatrix.entries = [(name.into(), Entry::new(sums, vec![2.0]).unwrap())].into();
    let job = Job::weighted(source.as_ref(), &recipe, Some(&imatrix), out.clone()).unwrap();
    convert::run(source.as_ref(), &[job], ConvertOptions::default(), &Silent).unwrap();
    let file = GgufFile::open(&out).unwrap();
    assert_eq!(file.tensor(name).unwrap().ty, TensorType::IQ2_XXS);
}

#[test]
fn the_report_is_the_error_of_the_file_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (job, report) = convert(&dir.path().join("a.gguf"), "q4_k", None, 1).unwrap();
    let (_, again) = convert(&dir.path().join("b.gguf"), "q4_k", None, 3).unwrap();
    assert_eq!(report, again);
    let file = GgufFile::open(&job.path).unwrap();
    let errors = &report.files[0].tensors;
    assert_eq!(errors.len(), 8 * 8 + 2);
    for error in errors {
        let row = &job.plan.rows[error.row];
        let source = source_weights(&row.name);
        let mut back = vec![0.0; source.len()];
        ggml::to_f32(row.to, file.data(file.tensor(&row.name).unwrap()), &mut back);
        let squares: Vec<f64> = source
            .iter()
            .zip(&back)
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .collect();
        let rmse = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        approx::assert_relative_eq!(error.rmse, rmse, max_relative = 1e-9);
        let n = row.to.block_len();
        let blocks = squares.chunks(n).map(|block| (block.iter().sum::<f64>() / n as f64).sqrt());
        let worst = blocks.fold(0.0, f64::max);
        approx::assert_relative_eq!(error.worst_block_rmse, worst, max_relative = 1e-9);
        let block = &squares[error.worst_block * n..][..n];
        let found = (block.iter().sum::<f64>() / n as f64).sqrt();
        approx::assert_relative_eq!(found, worst, max_relative = 1e-9);
        assert!(error.max_abs > 0.0 && error.relative > 0.0 && error.relative < 0.2);
    }
}
