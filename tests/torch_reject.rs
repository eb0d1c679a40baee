//! Bad PyTorch files: each is refused with a line that says what is wrong; none panics, hangs, or
//! makes memory grow.

mod common;

use common::bytes::file;
use common::torch::{entries, entry, state_dict, view, zip, Entry, Pickle, View, ZipWriter};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::checkpoint::Checkpoint;
use rwkvq::Error;

/// The reason for which the file is refused.
fn reason(bytes: &[u8]) -> String {
    let (_dir, path) = file("m.bin", bytes);
    let error = Checkpoint::open(&path).expect_err("the checkpoint is bad");
    assert!(
        matches!(error, Error::Malformed { .. } | Error::Unsupported { .. }),
        "blames the wrong one: {error:?}"
    );
    let line = error.to_string();
    assert!(!line.contains('\n') && line.len() < 1000, "not one line: {line:?}");
    line.strip_prefix(&format!("{}: ", path.display())).expect("names the file first").into()
}

#[track_caller]
fn refused_zip(entries: &[Entry], expected: &str) {
    assert_eq!(reason(&zip(entries)), expected);
}

/// A file with this pickle and one storage "0" of eight bytes.
#[track_caller]
fn refused_pickle(pickle: Pickle, expected: &str) {
    refused_zip(&entries(&pickle.0, &[("0", &[7; 8])]), expected);
}

/// A file with one tensor of this declaration and one storage "0" of eight bytes.
#[track_caller]
fn refused_view(view: View, expected: &str) {
    refused_zip(&entries(&state_dict(&[view]), &[("0", &[7; 8])]), expected);
}

fn two() -> View {
    view("x", "FloatStorage", "0", &[2])
}

fn valid_entries() -> Vec<Entry> {
    let pickle = state_dict(&[two(), view("y", "HalfStorage", "1", &[3, 1])]);
    entries(&pickle, &[("0", &[7; 8]), ("1", &[8; 6])])
}

#[test]
fn the_builder_makes_valid_files() {
    // Without this, every test below could pass for a reason of its own.
    let (_dir, path) = file("m.bin", &zip(&valid_entries()));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
    let mut bytes = [0; 6];
    checkpoint.read_bytes(1, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [8; 6]);
}

#[test]
fn what_is_not_allowed_is_not_done() {
    let call = |module: &str, name: &str| {
        Pickle::new().global(module, name).raw(b"(").text("touch /tmp/pwned").raw(b"tR.")
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch", "FloatStorage.from_file"),
        ("", ""),
    ] {
        let expected = format!("checkpoint asks for {module}.{name}, which is not allowed");
        refused_pickle(call(module, name), &expected);
        // The same through the newer instruction: module, name, STACK_GLOBAL.
        let newer = Pickle(vec![0x80, 4]).text(module).text(name).raw(b"\x93).");
        refused_pickle(newer, &expected);
    }
    refused_pickle(
        call("a\u{1b}[2J\r", "b"),
        "checkpoint asks for a\\u{1b}[2J\\r.b, which is not allowed",
    );
    // Instructions that import, call, or make what no state dict has.
    for opcode in
        *b"iolde]aIFLSTUVgp02B1PC\x81\x82\x83\x84\x8b\x8d\x8e\x8f\x90\x91\x92\x96\x97\x98\0"
    {
        let at = if opcode == 0 { 2 } else { 3 };
        let start = Pickle::new().raw(if at == 2 { b"" } else { b"(" });
        let expected = format!("pickle opcode {opcode:#04x} at byte {at} is not allowed");
        refused_pickle(start.raw(&[opcode]), &expected);
    }
}

#[test]
fn pickles_of_the_wrong_form() {
    refused_pickle(Pickle::new(), "pickle truncated at byte 2: 1 bytes needed, 0 left");
    refused_pickle(Pickle(vec![0x80, 9]), "pickle protocol 9 is not supported (2 to 5 are)");
    refused_pickle(Pickle::new().raw(b"."), "pickle stack is empty at byte 2 of the pickle");
    refused_pickle(Pickle::new().raw(b"(."), "pickle stack is empty at byte 3 of the pickle");
    refused_pickle(
        Pickle::new().raw(b"NN."),
        "pickle ends with values left on the stack at byte 4 of the pickle",
    );
    refused_pickle(Pickle::new().raw(b"}.N"), "1 bytes follow the end of the pickle");
    refused_pickle(Pickle::new().raw(b"h\x05."), "nothing is kept under 5 at byte 2 of the pickle");
    refused_pickle(Pickle::new().raw(b"t."), "no mark at byte 2 of the pickle");
    refused_pickle(Pickle::new().raw(b"(q\0"), "pickle stack is empty at byte 3 of the pickle");
    refused_pickle(Pickle::new().raw(b"N(N\x86"), "pickle stack is empty at byte 5 of the pickle");
    refused_pickle(Pickle::new().raw(b"NNNs"), "not a dict at byte 5 of the pickle");
    refused_pickle(Pickle::new().raw(b"}(Nu"), "key without a value at byte 5 of the pickle");
    refused_pickle(Pickle::new().raw(b"NNb"), "not a dict at byte 4 of the pickle");
    refused_pickle(
        Pickle::new().raw(b"N)R"),
        "call of what is no function at byte 4 of the pickle",
    );
    refused_pickle(
        Pickle::new().raw(b"K\x01\x93"),
        "pickle stack is empty at byte 4 of the pickle",
    );
    refused_pickle(
        Pickle::new().raw(b"NN\x93"),
        "name of a global is not a text at byte 4 of the pickle",
    );
    refused_pickle(Pickle::new().raw(b"NQ"), "unexpected persistent id at byte 3 of the pickle");
    refused_pickle(
        Pickle::new().raw(b"(").text("module").raw(b"NNNNtQ"),
        "unexpected persistent id at byte 19 of the pickle",
    );
    refused_pickle(
        Pickle::new().raw(b"X\x02\0\0\0\xff\xfe"),
        "text at byte 7 of the pickle is not UTF-8",
    );
    refused_pickle(
        Pickle::new().raw(b"\x8a\x09123456789"),
        "integer of 9 bytes at byte 4 of the pickle",
    );
    for line in [&b"cos\nsystem"[..], &[b'c'; 300], b"c"] {
        let line = reason(&zip(&entries(&Pickle::new().raw(line).0, &[])));
        assert!(line.ends_with("of the pickle does not end"), "{line}");
    }
}

#[test]
fn calls_with_the_wrong_arguments() {
    let rebuild = |arguments: &[u8]| {
        Pickle::new()
            .global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .raw(arguments)
            .raw(b"tR")
    };
    let start = "unexpected arguments to torch._utils._rebuild_tensor_v2 at byte ";
    for arguments in [&b""[..], b"NNNNNN", b"K\x01K\x01))N}", b"NN"] {
        let line = reason(&zip(&entries(&rebuild(arguments).0, &[])));
        assert!(line.starts_with(start), "{line}");
    }
    // A seventh argument may say that all values are to be negated.
    let mut negated = state_dict(&[two()]);
    let at = negated.len() - b"tRu.".len();
    assert_eq!(&negated[at..], b"tRu.");
    negated.splice(at..at, *b"}");
    let line = reason(&zip(&entries(&negated, &[("0", &[7; 8])])));
    assert!(line.starts_with(start), "{line}");
    let ordered = Pickle::new().global("collections", "OrderedDict").raw(b"N\x85R");
    let line = reason(&zip(&entries(&ordered.0, &[])));
    assert!(line.starts_with("unexpected arguments to collections.OrderedDict at byte "), "{line}");
}

#[test]
fn what_is_no_state_dict() {
    for pickle in [Pickle::new().raw(b"N."), Pickle::new().view(&two()).raw(b".")] {
        refused_pickle(pickle, "the pickle does not make a dict of tensors");
    }
    refused_pickle(Pickle::new().raw(b"}."), "no tensors in it");
    refused_pickle(Pickle::new().raw(b"}").text("state_dict").raw(b"}s."), "no tensors in it");
    let one = |value: &[u8]| Pickle::new().raw(b"}").text("epoch").raw(value).raw(b"s.");
    refused_pickle(one(b"K\x03"), "entry \"epoch\" is not a tensor");
    refused_pickle(one(b")"), "entry \"epoch\" is not a tensor");
    // A dict in a dict in a dict; two dicts; a tensor beside a dict.
    let deep = Pickle::new().raw(b"}").text("a").raw(b"}").text("b").raw(b"}ss.");
    refused_pickle(deep, "entry \"b\" is not a tensor");
    let dicts = Pickle::new().raw(b"}(").text("a").raw(b"}").text("b").raw(b"}u.");
    refused_pickle(dicts, "entry \"a\" is not a tensor");
    let beside = Pickle::new().raw(b"}(").text("a").raw(b"}").text("x").view(&two()).raw(b"u.");
    refused_pickle(beside, "entry \"a\" is not a tensor");
    let key = Pickle::new().raw(b"}K\x01").view(&two()).raw(b"s.");
    refused_pickle(key, "a key of the state dict is not a text");
    // A dict that holds itself.
    refused_pickle(
        Pickle::new().raw(b"}q\0").text("a").raw(b"h\0s."),
        "entry \"a\" is not a tensor",
    );
}

#[test]
fn names() {
    refused_zip(
        &entries(&state_dict(&[two(), two()]), &[("0", &[7; 8])]),
        "duplicate tensor name \"x\"",
    );
    for name in [String::new(), "n".repeat(257), "a\0b".into()] {
        let expected = format!("tensor name of {} bytes (1 to 256 allowed, no NUL)", name.len());
        refused_view(View { name, ..two() }, &expected);
    }
    let many: Vec<View> = (0..65_537).map(|i| View { name: i.to_string(), ..two() }).collect();
    refused_zip(
        &entries(&state_dict(&many), &[("0", &[7; 8])]),
        "tensor count 65537 exceeds limit 65536",
    );
}

#[test]
fn storages() {
    refused_view(View { key: "77".into(), ..two() }, "tensor \"x\": storage 77 missing");
    refused_view(
        View { key: "../data.pkl".into(), ..two() },
        "tensor \"x\": storage ../data.pkl missing",
    );
    let short = entries(&state_dict(&[two()]), &[("0", &[7; 6])]);
    refused_zip(&short, "tensor \"x\": storage says 2 elements, entry has 6 bytes");
    for n in [1, 3, -1, i64::MAX, i64::MIN, 1 << 62] {
        let expected = format!("tensor \"x\": storage says {n} elements, entry has 8 bytes");
        refused_view(View { n_elements: n, ..two() }, &expected);
    }
    for ty in ["DoubleStorage", "LongStorage", "IntStorage", "ByteStorage", "BoolStorage"] {
        let expected = format!("tensor \"x\": {ty}, expected F32/F16/BF16");
        refused_view(View { storage_type: ty.into(), ..two() }, &expected);
    }
    refused_view(
        View { storage_type: "QUInt8Storage".into(), ..two() },
        "checkpoint asks for torch.QUInt8Storage, which is not allowed",
    );
}

#[test]
fn shapes_and_strides() {
    let shaped = |shape: &[i64], strides: &[i64]| View {
        shape: shape.into(),
        strides: strides.into(),
        ..two()
    };
    refused_view(shaped(&[0, 2], &[1, 1]), "tensor \"x\": zero dimension in [0, 2]");
    refused_view(shaped(&[1; 5], &[1; 5]), "tensor \"x\": 5 dimensions (0 to 4 allowed)");
    refused_view(shaped(&[2], &[1, 1]), "tensor \"x\": 1 dimensions but 2 strides");
    refused_view(shaped(&[-2], &[1]), "tensor \"x\": -2 in its shape or strides");
    refused_view(shaped(&[2], &[-1]), "tensor \"x\": -1 in its shape or strides");
    refused_view(
        shaped(&[1 << 32, 1 << 32], &[0, 0]),
        "tensor \"x\": size of [4294967296, 4294967296] overflows",
    );
    refused_view(View { offset: -1, ..two() }, "tensor \"x\": storage offset -1");
    let outside = |view: View| {
        let expected = format!(
            "tensor \"x\": {:?} with strides {:?} from element {} on is not inside the 2 of its storage",
            view.shape, view.strides, view.offset
        );
        refused_view(view, &expected);
    };
    outside(shaped(&[3], &[1]));
    outside(shaped(&[2], &[2]));
    outside(shaped(&[2], &[i64::MAX]));
    outside(shaped(&[2, 2], &[i64::MAX, i64::MAX]));
    outside(shaped(&[2, 2], &[1, 1]));
    for offset in [1, 2, i64::MAX] {
        outside(View { offset, ..two() });
    }
    // Few bytes that ask for many: each element is taken again and again.
    refused_view(
        shaped(&[1 << 40], &[0]),
        "tensor \"x\": [1099511627776] repeats the 2 elements of its storage; save a copy of it",
    );
}

#[test]
fn bombs() {
    let nested = Pickle::new().raw(b")").raw(&vec![0x85; 2_000_000]).raw(b".");
    refused_pickle(nested, "tuples nested too deeply");
    // Each tuple holds the one before twice.
    let doubled: Vec<u8> = (0..200u8).flat_map(|i| [b'h', i, b'h', i, 0x86, b'q', i + 1]).collect();
    refused_pickle(Pickle::new().raw(b")q\0").raw(&doubled), "tuples nested too deeply");
    // The same with dicts, which may hold each other.
    let dicts: Vec<u8> = (0..200u8)
        .flat_map(|i| [b'}', b'q', i + 1, b'(', b'N', b'h', i, b'N', b'h', i, b'u'])
        .collect();
    let line = reason(&zip(&entries(&Pickle::new().raw(b"}q\0").raw(&dicts).raw(b".").0, &[])));
    assert!(line.starts_with("pickle ends with values left"), "{line}");
    refused_pickle(
        Pickle::new().raw(&vec![b'N'; 1_000_001]),
        "more than 1000000 values on the stack at byte 1000002 of the pickle",
    );
    refused_pickle(
        Pickle::new().raw(&vec![b'('; 1_000_001]),
        "more than 1000000 marks at byte 1000002 of the pickle",
    );
    let kept: Vec<u8> =
        (0..1_000_001u32).flat_map(|i| [&b"r"[..], &i.to_le_bytes()].concat()).collect();
    let line = reason(&zip(&entries(&Pickle::new().raw(b"N").raw(&kept).0, &[])));
    assert!(line.starts_with("more than 1000000 kept values at byte "), "{line}");
    let long = b"K\x01\x85".repeat(2_000_001);
    let line = reason(&zip(&entries(&Pickle::new().raw(b"}").raw(&long).0, &[])));
    assert!(line.starts_with("more than 1000000 values on the stack"), "{line}");
    let frames = b"\x95\0\0\0\0\0\0\0\0".repeat(4_000_001);
    refused_pickle(Pickle::new().raw(&frames), "pickle of more than 4000000 instructions");
    // Lengths that nothing follows.
    for (opcode, length, bytes) in [(b'X', &[0xff; 4][..], u32::MAX), (0x8c, &[0xff], 255)] {
        let pickle = Pickle::new().raw(&[opcode]).raw(length).raw(b"short");
        let at = 3 + length.len();
        let expected = format!("pickle truncated at byte {at}: {bytes} bytes needed, 5 left");
        refused_pickle(pickle, &expected);
    }
    // A shape of many numbers, shared by many tensors.
    let shape = Pickle::new().raw(b"}(").raw(&vec![b'N'; 900_000]).raw(b"tq\0b(");
    let pickle =
        (0..50_000).fold(shape, |pickle, i| pickle.text(&i.to_string()).view_of(&two(), b"h\0h\0"));
    refused_pickle(pickle.raw(b"u."), "tensor \"0\": 900000 dimensions (0 to 4 allowed)");
}

#[test]
fn data_pkl_that_is_absent_twice_or_too_long() {
    let without =
        |keep: fn(&Entry) -> bool| valid_entries().into_iter().filter(keep).collect::<Vec<_>>();
    let none = without(|entry| !entry.name.ends_with("data.pkl"));
    refused_zip(&none, "a zip without a data.pkl; not a PyTorch file");
    let mut deeper = none.clone();
    deeper.push(entry("a/b/data.pkl", b"}."));
    refused_zip(&deeper, "a zip without a data.pkl; not a PyTorch file");
    let mut two = valid_entries();
    two.push(entry("other/data.pkl", b"}."));
    refused_zip(&two, "two data.pkl in the zip");
    let long = entries(&vec![b'N'; (64 << 20) + 1], &[]);
    refused_zip(&long, "data.pkl of 67108865 bytes exceeds limit 67108864");
    refused_zip(&entries(b"", &[]), "pickle truncated at byte 0: 1 bytes needed, 0 left");
}

#[test]
fn byte_order() {
    let with = |text: &[u8]| {
        let mut all = valid_entries();
        all[1].data = text.to_vec();
        all
    };
    refused_zip(&with(b"big"), "big-endian PyTorch file; only little-endian is supported");
    refused_zip(&with(b"middle\n"), "byteorder is \"middle\\n\", expected little");
    refused_zip(&with(b""), "byteorder is \"\", expected little");
    refused_zip(&with(&[b'l'; 999]), "byteorder is \"llllllllllllllll\", expected little");
}

/// The valid file with entry "archive/data/0" changed.
#[track_caller]
fn refused_entry(change: impl FnOnce(&mut Entry), expected: &str) {
    let mut all = valid_entries();
    change(&mut all[2]);
    refused_zip(&all, expected);
}

#[test]
fn entries_that_lie() {
    let entry0 = |what: &str| format!("zip entry \"archive/data/0\" {what}");
    for method in [8, 9, 12, 93, 99] {
        let expected = entry0("is compressed; only stored entries are supported");
        refused_entry(|entry| entry.method = method, &expected);
    }
    refused_entry(|entry| entry.flags = 1, &entry0("is encrypted"));
    for n in [0, 7, 1 << 31] {
        let expected = entry0(&format!("is stored in 8 bytes but said to have {n}"));
        refused_entry(|entry| entry.bytes = Some(n), &expected);
    }
    let huge = |entry: &mut Entry, n: u64| {
        entry.bytes = Some(n);
        entry.stored_bytes = Some(n);
    };
    refused_entry(|entry| huge(entry, 1 << 31), &entry0("lies outside the file"));
    let mut all = valid_entries();
    for n in [u64::MAX, 1 << 63, u64::MAX - 100] {
        huge(&mut all[2], n);
        let bytes = ZipWriter { entries: &all, zip64: true, n_entries: None }.bytes();
        let line = reason(&bytes);
        assert!(
            line == entry0("lies outside the file")
                || line == entry0("is not where the directory says"),
            "{line}"
        );
    }
    for offset in [1 << 31, (1 << 32) - 2] {
        refused_entry(|entry| entry.offset = Some(offset), &entry0("lies outside the file"));
    }
    refused_entry(|entry| entry.offset = Some(3), &entry0("is not where the directory says"));
    let other = Some("archive/data/1".to_owned());
    refused_entry(|entry| entry.local_name = other, &entry0("has another name where its data is"));
    // Over the next header, and at the place of another entry.
    refused_entry(
        |entry| huge(entry, 80),
        "zip entries \"archive/data/0\" and \"archive/data/1\" overlap",
    );
    refused_entry(|entry| entry.offset = Some(0), &entry0("has another name where its data is"));
    refused_entry(
        |entry| entry.name = "archive/version".into(),
        "zip entry \"archive/version\" is there twice",
    );
    let twice = |entry: &mut Entry| {
        entry.name = "archive/byteorder".into();
        entry.data = b"little".to_vec();
    };
    refused_entry(twice, "zip entry \"archive/byteorder\" is there twice");
    let long = "n".repeat(513);
    refused_entry(|entry| entry.name = long, "zip entry whose name is not UTF-8 or over 512 bytes");
    // Compressed, but only where the data is.
    let all = valid_entries();
    let mut bytes = zip(&all);
    let header = bytes.windows(14).position(|name| name == b"archive/data/0").unwrap() - 30;
    bytes[header + 8] = 8;
    assert_eq!(reason(&bytes), entry0("is compressed or encrypted where its data is"));
}

#[test]
fn two_names_for_the_same_bytes() {
    // The second entry of the directory is the first again: what one reader shows, another hides.
    let mut all = valid_entries();
    let copy = Entry { offset: Some(0), ..all[0].clone() };
    all.push(copy);
    refused_zip(&all, "zip entries \"archive/data.pkl\" and \"archive/data.pkl\" overlap");
}

#[test]
fn directories_that_lie() {
    let all = valid_entries();
    let bytes = zip(&all);
    for n in [0, 4, 6, 65_534] {
        let expected = format!("zip says it has {n} entries, it lists 5");
        let bytes = ZipWriter { entries: &all, zip64: false, n_entries: Some(n) }.bytes();
        assert_eq!(reason(&bytes), expected);
    }
    let bytes64 = ZipWriter { entries: &all, zip64: true, n_entries: Some(1 << 40) }.bytes();
    assert_eq!(reason(&bytes64), "zip of 1099511627776 entries exceeds the limit 100000");
    let n = bytes.len();
    let longer = [&bytes[..], b"more"].concat();
    assert_eq!(reason(&longer), format!("zip ends at byte {n}, file has {}", n + 4));
    let empty: Vec<Entry> = Vec::new();
    let line = reason(&[b"PK\x03\x04".as_slice(), &zip(&empty)].concat());
    assert!(line.contains("zip"), "{line}");
    assert_eq!(reason(b"PK\x03\x04"), "truncated: the zip has no directory at its end");
}

#[test]
fn every_prefix_is_refused() {
    let whole = zip(&valid_entries());
    for n in 0..whole.len() {
        reason(&whole[..n]);
    }
    let pickle = state_dict(&[two()]);
    for n in 0..pickle.len() {
        refused_prefix(&pickle[..n]);
    }
}

/// A file that is whole but for its pickle.
fn refused_prefix(pickle: &[u8]) {
    reason(&zip(&entries(pickle, &[("0", &[7; 8])])));
}

/// Changes a few bytes.
fn mutated(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=3) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            2 => {
                bytes[at] = b"(.)}tQRusbqrhjXcKJM\x80\x85\x86\x87\x8a\x8c\x93\x94\x95"
                    [rng.random_range(0..28)]
            }
            3 => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
    bytes
}

/// Reads all of an accepted checkpoint; what was promised of it must be there.
fn read_all(checkpoint: &Checkpoint) {
    for (index, tensor) in checkpoint.tensors().iter().enumerate() {
        assert!(tensor.bytes <= 64, "more than the storages have");
        checkpoint.read_bytes(index, 0, &mut vec![0; tensor.bytes as usize]).unwrap();
    }
}

#[test]
fn mutated_files_never_panic_and_accepted_ones_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut transposed = view("t", "HalfStorage", "1", &[3, 2]);
    transposed.strides = vec![1, 3];
    let pickle = state_dict(&[two(), transposed]);
    let all = |pickle: &[u8]| entries(pickle, &[("0", &[7; 8]), ("1", &[8; 12])]);
    let whole = zip(&all(&pickle));
    let whole64 = ZipWriter { entries: &all(&pickle), zip64: true, n_entries: None }.bytes();
    let mut accepted = [0; 3];
    for seed in 0..12_000u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kind = (seed % 3) as usize;
        let bytes = match kind {
            0 => zip(&all(&mutated(&pickle, &mut rng))),
            1 => mutated(&whole, &mut rng),
            _ => mutated(&whole64, &mut rng),
        };
        // A new file each time: to write over one waits for the disk.
        let path = dir.path().join(seed.to_string());
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            accepted[kind] += 1;
            read_all(&checkpoint);
        }
        std::fs::remove_file(&path).unwrap();
    }
    let [pickles, zips, zips64] = accepted;
    assert!((10..1500).contains(&pickles), "{pickles} of 4000 pickles accepted");
    assert!((200..3000).contains(&zips), "{zips} of 4000 zips accepted");
    assert!((200..3000).contains(&zips64), "{zips64} of 4000 zips accepted");
}
