//! ggml's own reader sees in our files what we put there, and accepts what our reader accepts.

use std::ffi::{c_char, c_void, CStr, CString};
use std::path::Path;
use std::ptr::NonNull;

use ggml_sys as sys;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rwkvq::ggml::TensorType;
use rwkvq::gguf::{Array, GgufFile, Layout, Metadata, Value, Writer};
use rwkvq::Shape;

/// A file as ggml reads it: its metadata, and a context with tensors that have no data.
struct Oracle {
    gguf: NonNull<sys::gguf_context>,
    tensors: NonNull<sys::ggml_context>,
}

impl Oracle {
    fn open(path: &Path) -> Option<Self> {
        let name = CString::new(path.to_str().unwrap()).unwrap();
        let mut tensors = std::ptr::null_mut();
        let params = sys::gguf_init_params { no_alloc: true, ctx: &mut tensors };
        // SAFETY: the name is a C string and `tensors` outlives the call that fills it.
        let gguf = unsafe { sys::gguf_init_from_file(name.as_ptr(), params) };
        Some(Self { gguf: NonNull::new(gguf)?, tensors: NonNull::new(tensors).unwrap() })
    }

    fn key_id(&self, key: &str) -> i64 {
        let key = CString::new(key).unwrap();
        // SAFETY: the context lives as long as `self`; the key is a C string.
        unsafe { sys::gguf_find_key(self.gguf.as_ptr(), key.as_ptr()) }
    }

    /// The value of key `id`, read with ggml's accessors only.
    fn value(&self, id: i64) -> Value {
        let gguf = self.gguf.as_ptr();
        // SAFETY: `id` is below the number of keys; each accessor is called for the type that
        // ggml itself reports, which is what it asserts.
        unsafe {
            match sys::gguf_get_kv_type(gguf, id) {
                sys::GGUF_TYPE_UINT8 => sys::gguf_get_val_u8(gguf, id).into(),
                sys::GGUF_TYPE_INT8 => sys::gguf_get_val_i8(gguf, id).into(),
                sys::GGUF_TYPE_UINT16 => sys::gguf_get_val_u16(gguf, id).into(),
                sys::GGUF_TYPE_INT16 => sys::gguf_get_val_i16(gguf, id).into(),
                sys::GGUF_TYPE_UINT32 => sys::gguf_get_val_u32(gguf, id).into(),
                sys::GGUF_TYPE_INT32 => sys::gguf_get_val_i32(gguf, id).into(),
                sys::GGUF_TYPE_FLOAT32 => sys::gguf_get_val_f32(gguf, id).into(),
                sys::GGUF_TYPE_BOOL => sys::gguf_get_val_bool(gguf, id).into(),
                sys::GGUF_TYPE_STRING => text(sys::gguf_get_val_str(gguf, id)).into(),
                sys::GGUF_TYPE_UINT64 => sys::gguf_get_val_u64(gguf, id).into(),
                sys::GGUF_TYPE_INT64 => sys::gguf_get_val_i64(gguf, id).into(),
                sys::GGUF_TYPE_FLOAT64 => sys::gguf_get_val_f64(gguf, id).into(),
                sys::GGUF_TYPE_ARRAY => self.array(id),
                other => panic!("value type {other}"),
            }
        }
    }

    fn array(&self, id: i64) -> Value {
        let gguf = self.gguf.as_ptr();
        // SAFETY: `id` is that of an array.
        let (element, n) =
            unsafe { (sys::gguf_get_arr_type(gguf, id), sys::gguf_get_arr_n(gguf, id)) };
        if element == sys::GGUF_TYPE_STRING {
            // SAFETY: `i` is below the length of an array of strings.
            let get = |i| text(unsafe { sys::gguf_get_arr_str(gguf, id, i) });
            return (0..n).map(get).collect::<Vec<String>>().into();
        }
        // SAFETY: `id` is that of an array of `n` numbers of type `element`. Bools are bytes that our
        // writer made 0 or 1.
        unsafe {
            let data = sys::gguf_get_arr_data(gguf, id);
            match element {
                sys::GGUF_TYPE_UINT8 => numbers::<u8>(data, n).into(),
                sys::GGUF_TYPE_INT8 => numbers::<i8>(data, n).into(),
                sys::GGUF_TYPE_UINT16 => numbers::<u16>(data, n).into(),
                sys::GGUF_TYPE_INT16 => numbers::<i16>(data, n).into(),
                sys::GGUF_TYPE_UINT32 => numbers::<u32>(data, n).into(),
                sys::GGUF_TYPE_INT32 => numbers::<i32>(data, n).into(),
                sys::GGUF_TYPE_FLOAT32 => numbers::<f32>(data, n).into(),
                sys::GGUF_TYPE_BOOL => numbers::<bool>(data, n).into(),
                sys::GGUF_TYPE_UINT64 => numbers::<u64>(data, n).into(),
                sys::GGUF_TYPE_INT64 => numbers::<i64>(data, n).into(),
                sys::GGUF_TYPE_FLOAT64 => numbers::<f64>(data, n).into(),
                other => panic!("array type {other}"),
            }
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // SAFETY: both were given out by ggml and are freed once.
        unsafe {
            sys::gguf_free(self.gguf.as_ptr());
            sys::ggml_free(self.tensors.as_ptr());
        }
    }
}

/// Copies `n` values.
///
/// # Safety
/// `data` points to `n` values of `T`, or `n` is 0.
unsafe fn numbers<T: Clone>(data: *const c_void, n: usize) -> Vec<T> {
    if n == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(data.cast::<T>(), n) }.to_vec()
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: ggml's strings end with a zero.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().into()
}

fn metadata() -> Metadata {
    vec![
        ("general.architecture".into(), "rwkv6".into()),
        ("u8".into(), 200u8.into()),
        ("i8".into(), (-100i8).into()),
        ("u16".into(), 60_000u16.into()),
        ("i16".into(), (-30_000i16).into()),
        ("u32".into(), u32::MAX.into()),
        ("i32".into(), i32::MIN.into()),
        ("f32".into(), 1e-5f32.into()),
        ("bool".into(), true.into()),
        ("text".into(), "é\u{4e16}\n".into()),
        ("u64".into(), u64::MAX.into()),
        ("i64".into(), i64::MIN.into()),
        ("f64".into(), std::f64::consts::PI.into()),
        ("u8s".into(), vec![0u8, 255].into()),
        ("i8s".into(), vec![-128i8, 127].into()),
        ("u16s".into(), vec![1u16, 65_535].into()),
        ("i16s".into(), vec![-1i16].into()),
        ("u32s".into(), vec![7u32; 3].into()),
        ("i32s".into(), vec![3i32, 1, 5].into()),
        ("f32s".into(), vec![0.5f32, -0.0].into()),
        ("bools".into(), vec![true, false, true].into()),
        ("texts".into(), vec!["<s>".to_string(), String::new(), "\\xc3".into()].into()),
        ("u64s".into(), vec![u64::MAX].into()),
        ("i64s".into(), vec![i64::MIN, 0].into()),
        ("f64s".into(), vec![0.1f64].into()),
        ("none".into(), Value::Array(Array::U32(vec![]))),
    ]
}

/// Writes a file with one tensor of every type, of one to four dimensions.
fn write(path: &Path, metadata: &[(String, Value)]) -> Layout {
    let ranks: [&[usize]; 4] = [&[], &[3], &[1, 5], &[2, 1, 3]];
    let tensor = |(i, &ty): (usize, &TensorType)| {
        let ne: Vec<usize> = [2 * ty.block_len()].iter().chain(ranks[i % 4]).copied().collect();
        (format!("blk.{i}.{ty}.weight"), ty, Shape::new(&ne).unwrap())
    };
    let tensors = TensorType::ALL.iter().enumerate().map(tensor).collect();
    let layout = Layout::new(metadata, tensors).unwrap();
    let writer = Writer::create(path, &layout, true).unwrap();
    for (i, tensor) in layout.tensors().iter().enumerate() {
        writer.write_at(i, 0, &vec![0; tensor.bytes as usize]).unwrap();
    }
    writer.finish().unwrap();
    layout
}

#[test]
fn ggml_reads_our_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let metadata = metadata();
    write(&path, &metadata);
    let oracle = Oracle::open(&path).expect("ggml reads the file");
    // SAFETY: the context is alive.
    let (n, version) = unsafe {
        (sys::gguf_get_n_kv(oracle.gguf.as_ptr()), sys::gguf_get_version(oracle.gguf.as_ptr()))
    };
    assert_eq!((n as usize, version), (metadata.len(), 3));
    for (position, (key, value)) in metadata.iter().enumerate() {
        assert_eq!(oracle.key_id(key), position as i64, "{key}");
        assert_eq!(oracle.value(position as i64), *value, "{key}");
    }
}

#[test]
fn ggml_reads_our_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    for alignment in [None, Some(8), Some(256)] {
        let mut metadata = metadata();
        metadata.extend(alignment.map(|n: u32| ("general.alignment".to_string(), n.into())));
        let layout = write(&path, &metadata);
        let ours = GgufFile::open(&path).unwrap();
        let oracle = Oracle::open(&path).expect("ggml reads the file");
        let gguf = oracle.gguf.as_ptr();
        // SAFETY: the context is alive.
        let (n, data_offset, align) = unsafe {
            (
                sys::gguf_get_n_tensors(gguf),
                sys::gguf_get_data_offset(gguf),
                sys::gguf_get_alignment(gguf),
            )
        };
        assert_eq!(n as usize, layout.tensors().len());
        assert_eq!(data_offset as u64, layout.header().len() as u64);
        assert_eq!(align as u32, ours.alignment());
        assert_eq!(ours.tensors(), layout.tensors());
        for (i, tensor) in layout.tensors().iter().enumerate() {
            let name = CString::new(tensor.name.as_str()).unwrap();
            // SAFETY: `i` is below the number of tensors, and the tensor is in the context.
            let (theirs, ne) = unsafe {
                let theirs = (
                    text(sys::gguf_get_tensor_name(gguf, i as i64)),
                    sys::gguf_get_tensor_type(gguf, i as i64),
                    sys::gguf_get_tensor_offset(gguf, i as i64) as u64,
                    sys::gguf_get_tensor_size(gguf, i as i64) as u64,
                );
                (theirs, (*sys::ggml_get_tensor(oracle.tensors.as_ptr(), name.as_ptr())).ne)
            };
            let expected = (tensor.name.clone(), tensor.ty.id(), tensor.offset, tensor.bytes);
            assert_eq!(theirs, expected);
            assert_eq!(ne.map(|dim| dim as usize), tensor.shape.ne(), "{}", tensor.name);
        }
    }
}

#[test]
fn ggml_accepts_every_mutation_that_we_accept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let layout = write(&path, &metadata());
    let whole = std::fs::read(&path).unwrap();
    let mut accepted = 0;
    for seed in 0..1500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..=2) {
            let at = rng.random_range(0..layout.header().len());
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        let path = dir.path().join(format!("{seed}.gguf"));
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(ours) = GgufFile::open(&path) {
            accepted += 1;
            let theirs = Oracle::open(&path).unwrap_or_else(|| panic!("seed {seed}: ggml refuses"));
            // SAFETY: the context is alive.
            let data_offset = unsafe { sys::gguf_get_data_offset(theirs.gguf.as_ptr()) };
            assert_eq!(data_offset as u64, ours.data_offset(), "seed {seed}");
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert!((100..1400).contains(&accepted), "{accepted} of 1500 accepted");
}
