//! PyTorch files are read as they were written, and give the GGUF that safetensors give.

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::bytes::file;
use common::fixture::{data_dir, random_checkpoint};
use common::torch::{
    self, blinkdl_name, data, entries, entry, local_entry, rewritten, state_dict, storage_type,
    torch_shape, view, zip, ZipWriter,
};
use rwkvq::checkpoint::random::Spec;
use rwkvq::checkpoint::Checkpoint;
use rwkvq::convert::{self, ConvertOptions, Job};
use rwkvq::ggml::TensorType;
use rwkvq::recipe::Recipe;
use rwkvq::{Error, Silent};

const VOCAB: &str = "rwkv_vocab_v20230424.txt";

/// What `values` of tools/make-torch-checkpoints.py makes; every type holds it exactly.
fn value(i: usize) -> f32 {
    ((i * 37 % 101) as f32 - 50.0) / 8.0
}

/// Shape (slowest first), type and weights of a tensor.
fn tensor(checkpoint: &Checkpoint, name: &str) -> (Vec<i64>, TensorType, Vec<f32>) {
    let index = checkpoint.find(name).unwrap_or_else(|| panic!("{name} is there"));
    let entry = &checkpoint.tensors()[index];
    let mut weights = vec![0.0; entry.shape.n_elements()];
    checkpoint.read_f32(index, 0, &mut weights).unwrap();
    (torch_shape(checkpoint, index), entry.ty, weights)
}

#[track_caller]
fn check(
    checkpoint: &Checkpoint,
    name: &str,
    ty: TensorType,
    shape: &[i64],
    elements: impl IntoIterator<Item = usize>,
) {
    let weights: Vec<f32> = elements.into_iter().map(value).collect();
    assert_eq!(tensor(checkpoint, name), (shape.to_vec(), ty, weights), "{name}");
}

#[test]
fn views_that_pytorch_wrote() {
    let checkpoint = Checkpoint::open(&data_dir().join("torch/views.bin")).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    let sorted = [
        "columns",
        "every_other",
        "parameter",
        "permuted",
        "rows",
        "scalar",
        "table",
        "transposed",
    ];
    assert_eq!(names, sorted);
    let cells = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        rows.flat_map(move |row| columns.clone().map(move |column| row * 6 + column))
    };
    let bf16 = TensorType::BF16;
    check(&checkpoint, "table", bf16, &[10, 6], 0..60);
    check(&checkpoint, "rows", bf16, &[3, 6], cells(2..5, 0..6));
    check(&checkpoint, "columns", bf16, &[10, 3], cells(0..10, 1..4));
    let transposed = (0..6).flat_map(|column| (0..10).map(move |row| row * 6 + column));
    check(&checkpoint, "transposed", bf16, &[6, 10], transposed);
    let every_other = (0..10).step_by(2).flat_map(|row| [row * 6, row * 6 + 3]);
    check(&checkpoint, "every_other", bf16, &[5, 2], every_other);
    let permuted = (0..4).flat_map(|k| (0..6).map(move |ij| 100 + ij * 4 + k));
    check(&checkpoint, "permuted", TensorType::F32, &[4, 2, 3], permuted);
    check(&checkpoint, "parameter", TensorType::F16, &[2, 4], 7..15);
    assert_eq!(tensor(&checkpoint, "scalar"), (vec![1], TensorType::F32, vec![2.5]));
}

#[test]
fn a_module_and_a_wrapped_dict_that_pytorch_wrote() {
    for name in ["module.bin", "wrapped.pth"] {
        let checkpoint = Checkpoint::open(&data_dir().join("torch").join(name)).unwrap();
        assert_eq!(checkpoint.tensors().len(), 2);
        check(&checkpoint, "weight", TensorType::F32, &[2, 3], 0..6);
        check(&checkpoint, "bias", TensorType::F32, &[2], 6..8);
    }
}

/// Every element of one storage is there, in pieces of any length and from any thread.
#[test]
fn pieces_of_views_are_parts_of_the_whole() {
    let checkpoint = Checkpoint::open(&data_dir().join("torch/views.bin")).unwrap();
    std::thread::scope(|scope| {
        for (index, entry) in checkpoint.tensors().iter().enumerate() {
            let checkpoint = &checkpoint;
            scope.spawn(move || {
                let whole = tensor(checkpoint, &entry.name).2;
                let bytes = data(checkpoint, index);
                let (n, width) = (whole.len(), entry.ty.block_bytes());
                for (start, end) in (0..n).flat_map(|start| (start..=n).map(move |e| (start, e))) {
                    let mut piece = vec![0.0; end - start];
                    checkpoint.read_f32(index, start, &mut piece).unwrap();
                    assert_eq!(piece, whole[start..end], "{} {start}..{end}", entry.name);
                    let mut raw = vec![0; (end - start) * width];
                    checkpoint.read_bytes(index, (start * width) as u64, &mut raw).unwrap();
                    assert_eq!(raw, bytes[start * width..end * width]);
                }
                for (offset, n) in [(1, width), (0, 1), (bytes.len() as u64, width)] {
                    let error = checkpoint.read_bytes(index, offset, &mut vec![0; n]).unwrap_err();
                    assert!(matches!(error, Error::Argument { .. }), "{offset} {n}: {error}");
                }
            });
        }
    });
}

/// The GGUFs that all presets make of a checkpoint.
fn ggufs(src: &Path, out: &Path) -> Vec<Vec<u8>> {
    let source = convert::open(src, None).unwrap();
    let recipes: Vec<_> = Recipe::names().map(|name| Recipe::open(name).unwrap()).collect();
    let paths = convert::output_paths(source.name(), &recipes, out).unwrap();
    let jobs: Vec<Job> = recipes
        .iter()
        .zip(&paths)
        .map(|(recipe, path)| Job::new(source.as_ref(), recipe, path.clone()).unwrap())
        .collect();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::default() };
    convert::run(source.as_ref(), &jobs, options, &Silent).unwrap();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// `dir/form/finch`, with the small files of `src` in it.
fn folder(dir: &Path, form: &str, src: &Path) -> PathBuf {
    let folder = dir.join(form).join("finch");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["config.json", VOCAB] {
        std::fs::copy(src.join(name), folder.join(name)).unwrap();
    }
    folder
}

fn spec(ty: TensorType) -> Spec {
    Spec {
        // Halved after each layer, so that the second is divided.
        n_layer: 2,
        rescale_every: 1,
        n_embd: 256,
        head_size: 64,
        low_rank_mix: 8,
        low_rank_decay: 16,
        ty,
        ..Spec::default()
    }
}

/// All forms of the same weights below `dir`: folders, and one file.
fn forms(dir: &Path, ty: TensorType) -> Vec<PathBuf> {
    let src = random_checkpoint(&spec(ty));
    let checkpoint = Checkpoint::open(src.path()).unwrap();
    let (n, same) = (checkpoint.tensors().len(), |name: &str| name.to_owned());
    let one = folder(dir, "safetensors", src.path());
    std::fs::copy(src.path().join("model.safetensors"), one.join("model.safetensors")).unwrap();
    let shards = random_checkpoint(&Spec { shards: 3, ..spec(ty) });
    let many = dir.join("safetensors-shards/finch");
    std::fs::create_dir_all(many.parent().unwrap()).unwrap();
    std::fs::rename(shards.keep(), &many).unwrap();

    let bin = folder(dir, "bin", src.path());
    std::fs::write(bin.join("pytorch_model.bin"), rewritten(&checkpoint, 0..n, same)).unwrap();
    let bins = folder(dir, "bin-shards", src.path());
    let mut places = serde_json::Map::new();
    for (i, part) in [0..n / 3, n / 3..n / 2, n / 2..n].into_iter().enumerate() {
        let name = format!("pytorch_model-{:05}-of-00003.bin", i + 1);
        std::fs::write(bins.join(&name), rewritten(&checkpoint, part.clone(), same)).unwrap();
        let names = part.map(|index| checkpoint.tensors()[index].name.clone());
        places.extend(names.map(|tensor| (tensor, name.clone().into())));
    }
    let index = serde_json::json!({ "weight_map": places }).to_string();
    std::fs::write(bins.join("pytorch_model.bin.index.json"), index).unwrap();

    let pth = folder(dir, "pth", src.path()).join("finch.pth");
    std::fs::write(&pth, rewritten(&checkpoint, (0..n).rev(), blinkdl_name)).unwrap();
    let views = folder(dir, "views", src.path());
    std::fs::write(views.join("pytorch_model.bin"), as_views(&checkpoint)).unwrap();
    vec![one, many, bin, bins, pth, views]
}

/// All tensors in one storage, matrices with their columns side by side.
fn as_views(checkpoint: &Checkpoint) -> Vec<u8> {
    let (mut views, mut storage) = (Vec::new(), Vec::new());
    for (index, tensor) in checkpoint.tensors().iter().enumerate() {
        let (shape, bytes) = (torch_shape(checkpoint, index), data(checkpoint, index));
        let width = tensor.ty.block_bytes();
        let mut view = view(&tensor.name, storage_type(tensor.ty), "all", &shape);
        view.offset = (storage.len() / width) as i64;
        match shape[..] {
            [rows, columns] => {
                view.strides = vec![1, rows];
                for at in
                    (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as usize))
                {
                    storage.extend_from_slice(&bytes[at * width..(at + 1) * width]);
                }
            }
            _ => storage.extend(bytes),
        }
        views.push(view);
    }
    let width = checkpoint.tensors()[0].ty.block_bytes();
    views.iter_mut().for_each(|view| view.n_elements = (storage.len() / width) as i64);
    zip(&entries(&state_dict(&views), &[("all", &storage)]))
}

#[test]
fn every_form_gives_the_same_gguf() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let dir = tempfile::tempdir().unwrap();
        assert_same_ggufs(&forms(dir.path(), ty), dir.path());
    }
}

/// Every preset makes the same file of each of `forms`.
#[track_caller]
fn assert_same_ggufs(forms: &[PathBuf], dir: &Path) {
    let out = dir.join("out");
    let expected = ggufs(&forms[0], &out);
    assert_eq!(expected.len(), 13);
    for form in &forms[1..] {
        for ((name, expected), found) in Recipe::names().zip(&expected).zip(ggufs(form, &out)) {
            assert!(found == *expected, "{}: {name} differs", form.display());
        }
    }
}

/// The committed files: torch.save's own of a checkpoint that is written here as safetensors.
#[test]
fn files_that_pytorch_wrote_give_the_same_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec {
        n_layer: 2,
        n_embd: 32,
        head_size: 16,
        n_vocab: 300,
        ty: TensorType::BF16,
        seed: 9,
        ..Spec::default()
    };
    let src = random_checkpoint(&spec);
    let wrote = |form: &str| {
        let folder = folder(dir.path(), form, src.path());
        for entry in std::fs::read_dir(data_dir().join("torch/finch").join(form)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        folder
    };
    let safetensors = folder(dir.path(), "safetensors", src.path());
    let weights = "model.safetensors";
    std::fs::copy(src.path().join(weights), safetensors.join(weights)).unwrap();
    let forms = [safetensors, wrote("bin"), wrote("bin-shards"), wrote("pth").join("finch.pth")];
    assert_same_ggufs(&forms, dir.path());
}

/// The same at a width of superblocks and for every type, where there is a torch to write it.
#[test]
fn files_that_pytorch_writes_now_give_the_same_gguf() {
    let Some(python) = std::env::var_os("RWKVQ_TORCH_PYTHON") else {
        println!("skipped: RWKVQ_TORCH_PYTHON is not set");
        return;
    };
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let dir = tempfile::tempdir().unwrap();
        let src = dir.path().join("finch");
        std::fs::rename(random_checkpoint(&spec(ty)).keep(), &src).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/make-torch-checkpoints.py");
        let output = Command::new(&python).arg(script).args([&src, dir.path()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let forms = ["safetensors", "safetensors-shards", "bin", "bin-shards"];
        let mut forms = forms.map(|form| dir.path().join(form).join("finch")).to_vec();
        forms.push(dir.path().join("pth/finch.pth"));
        forms.push(src);
        assert_same_ggufs(&forms, dir.path());
    }
}

#[test]
fn safetensors_are_taken_where_both_are() {
    let dir = tempfile::tempdir().unwrap();
    let forms = forms(dir.path(), TensorType::BF16);
    let (safetensors, bin) = (&forms[0], &forms[2]);
    std::fs::write(safetensors.join("pytorch_model.bin"), "not looked at").unwrap();
    let checkpoint = Checkpoint::open(safetensors).unwrap();
    assert_eq!(checkpoint.file_of(0), safetensors.join("model.safetensors"));
    // A name says nothing: what is in the file does.
    let bin = Checkpoint::open(bin).unwrap();
    let renamed = safetensors.join("model.safetensors");
    std::fs::copy(bin.file_of(0), &renamed).unwrap();
    let checkpoint = Checkpoint::open(safetensors).unwrap();
    assert_eq!(checkpoint.tensors().len(), bin.tensors().len());
    assert_eq!(data(&checkpoint, 5), data(&bin, 5));
}

#[test]
fn an_original_file_alone_needs_only_a_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let pth = &forms(dir.path(), TensorType::BF16)[4];
    let alone = dir.path().join("finch.pth");
    std::fs::rename(pth, &alone).unwrap();
    let error = convert::open(&alone, None).expect_err("no vocabulary").to_string();
    assert!(error.ends_with(&format!("no {VOCAB} beside it; give one with --vocab")), "{error}");
    let vocab = pth.with_file_name(VOCAB);
    let source = convert::open(&alone, Some(vocab.clone())).unwrap();
    assert_eq!((source.name(), source.n_layer()), ("finch", 2));
    assert_eq!(source.inputs(), [alone.as_path(), vocab.as_path()]);
}

#[test]
fn large_archives_with_64_bit_fields() {
    let (weights, views) = ([1u8, 2, 3, 4], [view("w", "HalfStorage", "0", &[2])]);
    let all = entries(&state_dict(&views), &[("0", &weights)]);
    let bytes = ZipWriter { entries: &all, zip64: true, n_entries: None }.bytes();
    let (_dir, path) = file("m.bin", &bytes);
    assert_eq!(data(&Checkpoint::open(&path).unwrap(), 0), weights);

    // A sparse file: the storage lies behind the first 5 GiB.
    let at = 5u64 << 30;
    let (pickle, storage) = (&all[0], &all[2]);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    local_entry(&mut front, pickle);
    local_entry(&mut back, storage);
    let two = [pickle.clone(), storage.clone()];
    let writer = ZipWriter { entries: &two, zip64: true, n_entries: None };
    let directory = writer.directory(&[0, at], at + back.len() as u64);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.bin");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&front).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&back).unwrap();
    file.write_all(&directory).unwrap();
    assert_eq!(data(&Checkpoint::open(&path).unwrap(), 0), weights);
}

/// The address space of a process is limited to 1 GB, so that the file can be neither read as a
/// whole nor mapped. (At the size of a real model: tools/check-memory.py.)
#[test]
#[cfg(target_os = "linux")]
fn a_file_of_3_gb_converts_in_less_than_1_gb() {
    const SOURCE: &str = "RWKVQ_TEST_LARGE_PTH";
    if let Some(src) = std::env::var_os(SOURCE).map(PathBuf::from) {
        // The limited process: this same test once more.
        let limit = rustix::process::Rlimit { current: Some(1 << 30), maximum: Some(1 << 30) };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
        ggufs(&src, &src.with_file_name("out"));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let src = random_checkpoint(&spec(TensorType::BF16));
    let pth = folder(dir.path(), "pth", src.path()).join("finch.pth");
    spread_out(&Checkpoint::open(src.path()).unwrap(), &pth, 3 << 30);
    assert!(std::fs::metadata(&pth).unwrap().len() > 3 << 30);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_file_of_3_gb_converts_in_less_than_1_gb"])
        .env(SOURCE, &pth)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let small = dir.path().join("small/finch");
    std::fs::create_dir(dir.path().join("small")).unwrap();
    std::fs::rename(src.keep(), &small).unwrap();
    let expected = ggufs(&small, &dir.path().join("out"));
    for (name, expected) in Recipe::names().zip(expected) {
        let found = pth.with_file_name("out").join(format!("finch-{name}.gguf"));
        assert!(std::fs::read(found).unwrap() == expected, "{name}");
    }
}

/// Writes BlinkDL's form of `checkpoint`: one sparse storage of `n_bytes`, the tensors all over it.
#[cfg(target_os = "linux")]
fn spread_out(checkpoint: &Checkpoint, path: &Path, n_bytes: u64) {
    use std::os::unix::fs::FileExt;

    let width = checkpoint.tensors()[0].ty.block_bytes() as u64;
    let apart = n_bytes / checkpoint.tensors().len() as u64 / 64 * 64;
    let mut views = Vec::new();
    for (index, tensor) in checkpoint.tensors().iter().enumerate() {
        let shape = torch_shape(checkpoint, index);
        let mut view = view(&blinkdl_name(&tensor.name), storage_type(tensor.ty), "all", &shape);
        view.offset = (index as u64 * apart / width) as i64;
        view.n_elements = (n_bytes / width) as i64;
        views.push(view);
    }
    let pickle = entry("archive/data.pkl", &state_dict(&views));
    let mut storage = entry("archive/data/all", b"");
    (storage.bytes, storage.stored_bytes) = (Some(n_bytes), Some(n_bytes));
    let mut front = Vec::new();
    let offsets = [&pickle, &storage].map(|entry| local_entry(&mut front, entry));
    let start = front.len() as u64;
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&front, 0).unwrap();
    for index in 0..views.len() {
        file.write_all_at(&data(checkpoint, index), start + index as u64 * apart).unwrap();
    }
    let writer = ZipWriter { entries: &[pickle, storage], zip64: true, n_entries: None };
    let end = start + n_bytes;
    file.write_all_at(&writer.directory(&offsets, end), end).unwrap();
}

#[test]
fn a_checksum_is_not_looked_at() {
    // Data is read in place and once; PyTorch itself can be told to leave checksums out.
    let all = entries(&state_dict(&[view("w", "HalfStorage", "0", &[2])]), &[("0", &[1, 2, 3, 4])]);
    let mut bytes = zip(&all);
    let at = bytes.windows(4).position(|found| found == [1, 2, 3, 4]).unwrap();
    bytes[at] = 9;
    let (_dir, path) = file("m.bin", &bytes);
    assert_eq!(data(&Checkpoint::open(&path).unwrap(), 0), [9, 2, 3, 4]);
}

#[test]
fn a_file_without_byte_order_is_little_endian() {
    let mut all =
        entries(&state_dict(&[view("w", "HalfStorage", "0", &[2])]), &[("0", &[1, 2, 3, 4])]);
    all.retain(|entry| !entry.name.ends_with("byteorder"));
    all.push(entry("archive/", b""));
    let (_dir, path) = file("m.bin", &zip(&all));
    assert_eq!(data(&Checkpoint::open(&path).unwrap(), 0), [1, 2, 3, 4]);
}

#[test]
fn a_file_that_is_cut_while_open_is_an_error() {
    let mut transposed = view("w", "FloatStorage", "0", &[50, 100]);
    transposed.strides = vec![1, 50];
    let all = entries(&torch::state_dict(&[transposed]), &[("0", &[0; 20_000])]);
    let (_dir, path) = file("m.bin", &zip(&all));
    let checkpoint = Checkpoint::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2000).unwrap();
    let error = checkpoint.read_f32(0, 0, &mut [0.0; 5000]).unwrap_err();
    let expected = format!("{}: cut while it was read, inside tensor \"w\"", path.display());
    assert_eq!(error.to_string(), expected);
}
