//! What is written is what is read, and a path never holds half a file.

use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rwkvq::ggml::TensorType;
use rwkvq::gguf::{stale_partials, GgufFile, Layout, Metadata, Value, Writer};
use rwkvq::mmap::Access;
use rwkvq::{Error, Shape};

type Tensors = Vec<(String, TensorType, Shape)>;

/// Any value; floats by their bits, NaN and all.
fn any_value() -> impl Strategy<Value = Value> {
    fn scalar_or_array<T, S>(strategy: S) -> BoxedStrategy<Value>
    where
        T: std::fmt::Debug + Clone + 'static,
        S: Strategy<Value = T> + Clone + 'static,
        Value: From<T> + From<Vec<T>>,
    {
        prop_oneof![
            strategy.clone().prop_map(Value::from),
            vec(strategy, 0..9).prop_map(Value::from)
        ]
        .boxed()
    }
    prop_oneof![
        scalar_or_array(any::<u8>()),
        scalar_or_array(any::<i8>()),
        scalar_or_array(any::<u16>()),
        scalar_or_array(any::<i16>()),
        scalar_or_array(any::<u32>()),
        scalar_or_array(any::<i32>()),
        scalar_or_array(any::<u32>().prop_map(f32::from_bits)),
        scalar_or_array(any::<bool>()),
        scalar_or_array(any::<String>()),
        scalar_or_array(any::<u64>()),
        scalar_or_array(any::<i64>()),
        scalar_or_array(any::<u64>().prop_map(f64::from_bits)),
    ]
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop_oneof![Just(None), (3u32..12).prop_map(|log2| Some(1u32 << log2))];
    (btree_map("\\PC{1,40}", any_value(), 0..12), alignment).prop_map(|(map, alignment)| {
        let mut metadata: Metadata = map.into_iter().collect();
        metadata.retain(|(key, _)| key != "general.alignment");
        metadata.extend(alignment.map(|n| ("general.alignment".to_string(), n.into())));
        metadata
    })
}

fn any_tensors() -> impl Strategy<Value = Tensors> {
    let name = "[a-zé_.]{1,30}";
    let tensor = (0..TensorType::ALL.len(), 1usize..4, vec(1usize..4, 0..4));
    btree_map(name, tensor, 0..7).prop_map(|map| {
        let shaped = |(name, (ty, blocks, rest)): (String, (usize, usize, Vec<usize>))| {
            let ty = TensorType::ALL[ty];
            let ne: Vec<usize> = [blocks * ty.block_len()].into_iter().chain(rest).collect();
            (name, ty, Shape::new(&ne).expect("small"))
        };
        map.into_iter().map(shaped).collect()
    })
}

/// Data of tensor `index`, different for each.
fn weights(index: usize, bytes: u64) -> Vec<u8> {
    (0..bytes).map(|i| (i as usize * 7 + index * 31) as u8).collect()
}

fn write(path: &Path, layout: &Layout, overwrite: bool) -> rwkvq::Result<()> {
    let writer = Writer::create(path, layout, overwrite)?;
    for (i, tensor) in layout.tensors().iter().enumerate() {
        writer.write_at(i, 0, &weights(i, tensor.bytes))?;
    }
    writer.finish()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn write_read_write_is_byte_equal(metadata in any_metadata(), tensors in any_tensors()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let layout = Layout::new(&metadata, tensors.clone()).unwrap();
        write(&path, &layout, false).unwrap();

        let bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(bytes.len() as u64, layout.file_bytes());
        let file = GgufFile::open(&path).unwrap();
        let names = |metadata: &[(String, Value)]| {
            metadata.iter().map(|(key, value)| (key.clone(), value.type_name())).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(file.metadata()), names(&metadata));
        // NaN is not equal to itself, but its text is.
        prop_assert_eq!(format!("{:?}", file.metadata()), format!("{:?}", metadata));
        let read: Tensors =
            file.tensors().iter().map(|t| (t.name.clone(), t.ty, t.shape)).collect();
        prop_assert_eq!(&read, &tensors);
        for (i, tensor) in file.tensors().iter().enumerate() {
            prop_assert_eq!(tensor.offset % u64::from(file.alignment()), 0);
            prop_assert_eq!(file.data(tensor), weights(i, tensor.bytes));
        }
        file.cross_check().unwrap();

        let again = Layout::new(file.metadata(), read).unwrap();
        prop_assert_eq!(again.header(), &bytes[..file.data_offset() as usize]);
        prop_assert_eq!(again.file_bytes(), file.file_bytes());
    }
}

/// A layout of two tensors, the first of 40 bytes and the second of 68.
fn two_tensors() -> Layout {
    let shape = |ne: &[usize]| Shape::new(ne).unwrap();
    let tensors = vec![
        ("a".to_string(), TensorType::F32, shape(&[5, 2])),
        ("b".to_string(), TensorType::Q8_0, shape(&[64])),
    ];
    Layout::new(&[("k".into(), 1u32.into())], tensors).unwrap()
}

#[test]
fn every_tensor_is_padded_with_zeros_the_last_too() {
    let layout = two_tensors();
    assert_eq!(layout.header().len() % 32, 0);
    assert_eq!(layout.tensors()[1].offset, 64);
    assert_eq!(layout.file_bytes(), layout.header().len() as u64 + 64 + 96);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    write(&path, &layout, false).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let data = &bytes[layout.header().len()..];
    assert_eq!((data[40..64].to_vec(), data[132..].to_vec()), (vec![0; 24], vec![0; 28]));
}

#[test]
fn a_layout_that_could_not_be_read_back_is_refused() {
    let refused = |metadata: &[(String, Value)], tensors: Tensors, expected: &str| {
        let line = Layout::new(metadata, tensors).unwrap_err().to_string();
        assert_eq!(line, format!("cannot lay out a GGUF file: {expected}"));
    };
    let shape = Shape::new(&[100, 2]).unwrap();
    let f32 = |name: &str| (name.to_string(), TensorType::F32, shape);
    refused(
        &[],
        vec![("w".into(), TensorType::Q4_K, shape)],
        "tensor \"w\": [100, 2] does not fill q4_k blocks of 256",
    );
    refused(&[], vec![f32("w"), f32("w")], "duplicate tensor name \"w\"");
    refused(
        &[],
        vec![f32(&"n".repeat(64))],
        "name of tensor 0: length 64 exceeds limit 63 at byte 24",
    );
    let key = ("k".to_string(), Value::from(1u32));
    refused(&[key.clone(), key], vec![], "duplicate metadata key \"k\"");
    refused(
        &[("general.alignment".into(), 24u32.into())],
        vec![],
        "general.alignment 24 is not a power of two in 8..=65536",
    );
}

#[test]
fn threads_write_pieces_in_any_order() {
    let shape = Shape::new(&[256, 64]).unwrap();
    let tensors = (0..4).map(|i| (format!("t{i}"), TensorType::F32, shape)).collect();
    let layout = Layout::new(&[], tensors).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let writer = Writer::create(&path, &layout, false).unwrap();
    std::thread::scope(|scope| {
        for i in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                let bytes = weights(i, 65_536);
                for piece in (0..64).rev() {
                    let range = piece * 1024..(piece + 1) * 1024;
                    writer.write_at(i, range.start as u64, &bytes[range]).unwrap();
                }
            });
        }
    });
    writer.finish().unwrap();
    let file = GgufFile::open(&path).unwrap();
    for (i, tensor) in file.tensors().iter().enumerate() {
        assert_eq!(file.data(tensor), weights(i, 65_536), "{}", tensor.name);
    }
}

#[test]
fn writes_outside_a_tensor_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::create(&dir.path().join("a.gguf"), &two_tensors(), false).unwrap();
    for (tensor, offset, n) in [(0, 0, 41), (0, 40, 1), (1, u64::MAX, 8), (2, 0, 0)] {
        let error = writer.write_at(tensor, offset, &vec![0; n]).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{tensor} {offset} {n}: {error}");
    }
}

#[test]
fn an_incomplete_file_is_not_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let writer = Writer::create(&path, &two_tensors(), false).unwrap();
    writer.write_at(0, 0, &[1; 40]).unwrap();
    writer.write_at(1, 0, &[1; 67]).unwrap();
    assert_eq!(
        writer.finish().unwrap_err().to_string(),
        "self-check failed: tensor \"b\": 67 bytes written, it has 68"
    );
    assert_eq!(names_in(dir.path()), [] as [String; 0]);
}

#[test]
fn a_dropped_writer_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    std::fs::write(&path, b"old").unwrap();
    let writer = Writer::create(&path, &two_tensors(), true).unwrap();
    assert_eq!(names_in(dir.path()).len(), 2, "the partial file is beside the target");
    writer.write_at(0, 0, &[1; 40]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    drop(writer);
    assert_eq!(names_in(dir.path()), ["a.gguf"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let exists = format!("{} exists; pass --overwrite to replace it", path.display());
    write(&path, &two_tensors(), false).unwrap();
    let error = Writer::create(&path, &two_tensors(), false).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }));
    assert_eq!(error.to_string(), exists);
    write(&path, &two_tensors(), true).unwrap();

    // One that appears while we write is not replaced either.
    std::fs::remove_file(&path).unwrap();
    let layout = two_tensors();
    let writer = Writer::create(&path, &layout, false).unwrap();
    writer.write_at(0, 0, &[0; 40]).unwrap();
    writer.write_at(1, 0, &[0; 68]).unwrap();
    std::fs::write(&path, b"someone else's").unwrap();
    assert_eq!(writer.finish().unwrap_err().to_string(), exists);
    assert_eq!(std::fs::read(&path).unwrap(), b"someone else's");
    assert_eq!(names_in(dir.path()), ["a.gguf"]);
}

#[test]
fn the_input_may_be_replaced_while_it_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    write(&path, &two_tensors(), false).unwrap();
    let input = GgufFile::open(&path).unwrap();
    let copied = GgufFile::open_with(&path, Access::Read).unwrap();
    let hash = input.sha256().unwrap();
    assert_eq!(copied.sha256().unwrap(), hash);
    let layout = two_tensors();
    let writer = Writer::create(&path, &layout, true).unwrap();
    for (i, tensor) in input.tensors().iter().enumerate() {
        let flipped: Vec<u8> = input.data(tensor).iter().map(|byte| !byte).collect();
        writer.write_at(i, 0, &flipped).unwrap();
    }
    writer.finish().unwrap();
    let output = GgufFile::open(&path).unwrap();
    for (i, (old, new)) in input.tensors().iter().zip(output.tensors()).enumerate() {
        assert_eq!(input.data(old), weights(i, old.bytes));
        assert!(input.data(old).iter().zip(output.data(new)).all(|(a, b)| *a == !b));
    }
    // The hash is that of the bytes in use, not of those that have the name now.
    assert_eq!([input, copied].map(|file| file.sha256().unwrap()), [&*hash, &*hash]);
    assert_ne!(output.sha256().unwrap(), hash);
}

#[test]
fn targets_that_are_not_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for target in [dir.path(), Path::new("/dev/null")] {
        let error = Writer::create(target, &two_tensors(), true).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not a regular file", target.display()));
    }
    let nowhere = dir.path().join("none/a.gguf");
    assert!(matches!(Writer::create(&nowhere, &two_tensors(), true), Err(Error::Io { .. })));
}

#[test]
fn partial_files_of_killed_runs_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let partial = |pid: u32| dir.path().join(format!(".a.gguf.{pid}.partial"));
    let dead = {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    for file in [partial(dead), dir.path().join(format!(".b.gguf.{dead}.partial"))] {
        std::fs::write(file, b"").unwrap();
    }
    let writer = Writer::create(&path, &two_tensors(), false).unwrap();
    assert_eq!(stale_partials(&path), [partial(dead)], "not ours, which is being written");
    drop(writer);
    assert_eq!(stale_partials(&dir.path().join("c.gguf")), [] as [PathBuf; 0]);

    // One under our own number, from before a restart, is named and not touched.
    let own = partial(std::process::id());
    std::fs::write(&own, b"left").unwrap();
    let line = Writer::create(&path, &two_tensors(), false).unwrap_err().to_string();
    assert!(line.starts_with(&own.display().to_string()) && line.ends_with("remove it"), "{line}");
    assert_eq!(std::fs::read(&own).unwrap(), b"left");
}

#[test]
fn a_full_disk_is_found_before_anything_is_written() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: there is no /dev/shm");
        return;
    };
    let disk = rustix::fs::statvfs(dir.path()).unwrap();
    let weights = usize::try_from(disk.f_blocks * disk.f_frsize).unwrap() / 2;
    if weights == 0 {
        println!("skipped: /dev/shm has no size");
        return;
    }
    let tensors = vec![("w".into(), TensorType::F32, Shape::new(&[weights]).unwrap())];
    let layout = Layout::new(&[], tensors).unwrap();
    let path = dir.path().join("a.gguf");
    let error = Writer::create(&path, &layout, false).unwrap_err();
    let bytes = layout.file_bytes();
    let expected = format!("{}: cannot reserve {bytes} bytes: No space left", path.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(matches!(error, Error::Io { .. }));
    assert_eq!(names_in(dir.path()), [] as [String; 0]);
}

#[test]
fn a_killed_run_leaves_the_old_file_and_a_partial_file() {
    const TARGET: &str = "RWKVQ_TEST_KILLED_WRITER";
    if let Some(path) = std::env::var_os(TARGET) {
        // The run that is killed: this same test, in a process of its own.
        let writer = Writer::create(Path::new(&path), &two_tensors(), true).unwrap();
        writer.write_at(0, 0, &[1; 40]).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .unwrap();
        unreachable!("killed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    std::fs::write(&path, b"old").unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_run_leaves_the_old_file_and_a_partial_file"])
        .env(TARGET, &path)
        .output()
        .unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(stale_partials(&path).len(), 1);
    assert_eq!(names_in(dir.path()).len(), 2);
    // The next run is not in its way.
    write(&path, &two_tensors(), true).unwrap();
    assert_eq!(GgufFile::open(&path).unwrap().tensors().len(), 2);
}
