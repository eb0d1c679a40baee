//! Writes PyTorch files: a zip of stored entries, one of them a pickle, laid out as torch.save
//! does. Every number in it can be made a lie.

use rwkvq::checkpoint::Checkpoint;
use rwkvq::ggml::TensorType;

/// An entry of a zip. What is `None` is written as it is.
#[derive(Clone, Default)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    /// 0 is stored, 8 deflated.
    pub method: u16,
    pub flags: u16,
    /// Name where the data is.
    pub local_name: Option<String>,
    /// What the directory says of its bytes in the file, its bytes unpacked, and its place.
    pub stored_bytes: Option<u64>,
    pub bytes: Option<u64>,
    pub offset: Option<u64>,
}

pub fn entry(name: &str, data: &[u8]) -> Entry {
    Entry { name: name.into(), data: data.to_vec(), ..Entry::default() }
}

/// Bytes of a zip, the data of each entry at a multiple of 64.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    ZipWriter { entries, zip64: false, n_entries: None }.bytes()
}

/// How a zip is written.
pub struct ZipWriter<'a> {
    pub entries: &'a [Entry],
    /// Every size and offset in a field of 64 bits.
    pub zip64: bool,
    /// What the end of the directory says of their number.
    pub n_entries: Option<u64>,
}

impl ZipWriter<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let mut zip = Vec::new();
        let offsets: Vec<u64> =
            self.entries.iter().map(|entry| local_entry(&mut zip, entry)).collect();
        let directory = self.directory(&offsets, zip.len() as u64);
        zip.extend(directory);
        zip
    }

    /// The directory and its end, for a file in which it begins at byte `start`.
    pub fn directory(&self, offsets: &[u64], start: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for (entry, &offset) in self.entries.iter().zip(offsets) {
            self.directory_entry(&mut out, entry, offset);
        }
        let (n, bytes) = (self.n_entries.unwrap_or(self.entries.len() as u64), out.len() as u64);
        let end = start + bytes;
        if self.zip64 {
            put(&mut out, &[(0x0606_4b50, 4), (44, 8), (45, 2), (45, 2), (0, 4), (0, 4)]);
            put(&mut out, &[(n, 8), (n, 8), (bytes, 8), (start, 8)]);
            put(&mut out, &[(0x0706_4b50, 4), (0, 4), (end, 8), (1, 4)]);
        }
        let small = |value: u64, width: usize| {
            if self.zip64 {
                u64::MAX >> (64 - 8 * width)
            } else {
                value
            }
        };
        put(&mut out, &[(0x0605_4b50, 4), (0, 2), (0, 2), (small(n, 2), 2), (small(n, 2), 2)]);
        put(&mut out, &[(small(bytes, 4), 4), (small(start, 4), 4), (0, 2)]);
        out
    }

    fn directory_entry(&self, out: &mut Vec<u8>, entry: &Entry, offset: u64) {
        let stored = entry.stored_bytes.unwrap_or(entry.data.len() as u64);
        let bytes = entry.bytes.unwrap_or(entry.data.len() as u64);
        let offset = entry.offset.unwrap_or(offset);
        let mut extra = Vec::new();
        let mut fields = [stored, bytes, offset];
        if self.zip64 {
            put(&mut extra, &[(1, 2), (24, 2), (bytes, 8), (stored, 8), (offset, 8)]);
            fields = [u32::MAX.into(); 3];
        }
        put(out, &[(0x0201_4b50, 4), (20, 2), (20, 2), (entry.flags.into(), 2)]);
        put(out, &[(entry.method.into(), 2), (0, 4), (crc32(&entry.data).into(), 4)]);
        put(out, &[(fields[0], 4), (fields[1], 4), (entry.name.len() as u64, 2)]);
        put(out, &[(extra.len() as u64, 2), (0, 2), (0, 2), (0, 2), (0, 4), (fields[2], 4)]);
        out.extend_from_slice(entry.name.as_bytes());
        out.extend(extra);
    }
}

/// Appends header and data of `entry` to `zip` and returns where the header is.
pub fn local_entry(zip: &mut Vec<u8>, entry: &Entry) -> u64 {
    let offset = zip.len();
    let name = entry.local_name.as_ref().unwrap_or(&entry.name);
    let padding = (64 - (offset + 30 + name.len() + 4) % 64) % 64;
    let bytes = entry.data.len() as u64;
    put(zip, &[(0x0403_4b50, 4), (20, 2), (entry.flags.into(), 2), (entry.method.into(), 2)]);
    put(zip, &[(0, 4), (crc32(&entry.data).into(), 4), (bytes, 4), (bytes, 4)]);
    put(zip, &[(name.len() as u64, 2), (padding as u64 + 4, 2)]);
    zip.extend_from_slice(name.as_bytes());
    put(zip, &[(0x4246, 2), (padding as u64, 2)]);
    zip.resize(zip.len() + padding, b'Z');
    zip.extend_from_slice(&entry.data);
    offset as u64
}

/// Appends little-endian numbers: value, bytes.
fn put(out: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for (value, width) in numbers {
        out.extend_from_slice(&value.to_le_bytes()[..*width]);
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// A pickle, instruction by instruction.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    /// Protocol 2, as torch.save writes it.
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub fn int(self, n: i64) -> Self {
        match i32::try_from(n) {
            Ok(n) => self.raw(b"J").raw(&n.to_le_bytes()),
            Err(_) => self.raw(&[0x8a, 8]).raw(&n.to_le_bytes()),
        }
    }

    pub fn ints(self, ints: &[i64]) -> Self {
        ints.iter().fold(self.raw(b"("), |pickle, &n| pickle.int(n)).raw(b"t")
    }

    pub fn view(self, view: &View) -> Self {
        let extent = Pickle::default().ints(&view.shape).ints(&view.strides);
        self.view_of(view, &extent.0)
    }

    /// A view whose shape and strides are what the instructions `extent` push.
    pub fn view_of(self, view: &View, extent: &[u8]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .text("storage")
            .global("torch", &view.storage_type)
            .text(&view.key)
            .text("cpu")
            .int(view.n_elements)
            .raw(b"tQ")
            .int(view.offset)
            .raw(extent)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }
}

/// A tensor as a pickle declares it.
#[derive(Clone)]
pub struct View {
    pub name: String,
    pub storage_type: String,
    pub key: String,
    pub n_elements: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

/// All elements of a storage, one after the other.
pub fn view(name: &str, storage_type: &str, key: &str, shape: &[i64]) -> View {
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim];
    }
    View {
        name: name.into(),
        storage_type: storage_type.into(),
        key: key.into(),
        n_elements: shape.iter().product(),
        offset: 0,
        shape: shape.into(),
        strides,
    }
}

/// The pickle of an OrderedDict of `views`.
pub fn state_dict(views: &[View]) -> Vec<u8> {
    let start = Pickle::new().global("collections", "OrderedDict").raw(b")R(");
    let all = views.iter().fold(start, |pickle, view| pickle.text(&view.name).view(view));
    all.raw(b"u.").0
}

/// The entries of a PyTorch file with this pickle and these storages.
pub fn entries(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<Entry> {
    let mut entries =
        vec![entry("archive/data.pkl", pickle), entry("archive/byteorder", b"little")];
    entries.extend(storages.iter().map(|(key, data)| entry(&format!("archive/data/{key}"), data)));
    entries.push(entry("archive/version", b"3\n"));
    entries
}

/// Name of the storage for elements of type `ty`.
pub fn storage_type(ty: TensorType) -> &'static str {
    match ty {
        TensorType::F32 => "FloatStorage",
        TensorType::F16 => "HalfStorage",
        TensorType::BF16 => "BFloat16Storage",
        other => panic!("no checkpoint of {other}"),
    }
}

/// The shape of a tensor, slowest dimension first.
pub fn torch_shape(checkpoint: &Checkpoint, index: usize) -> Vec<i64> {
    checkpoint.tensors()[index].shape.dims().iter().rev().map(|&dim| dim as i64).collect()
}

pub fn data(checkpoint: &Checkpoint, index: usize) -> Vec<u8> {
    let mut data = vec![0; checkpoint.tensors()[index].bytes as usize];
    checkpoint.read_bytes(index, 0, &mut data).unwrap();
    data
}

/// The tensors `indices` of `checkpoint` as torch.save writes them, each in a storage of its own.
pub fn rewritten(
    checkpoint: &Checkpoint,
    indices: impl Iterator<Item = usize>,
    rename: impl Fn(&str) -> String,
) -> Vec<u8> {
    let (mut views, mut storages) = (Vec::new(), Vec::new());
    for index in indices {
        let tensor = &checkpoint.tensors()[index];
        let (ty, key) = (storage_type(tensor.ty), views.len().to_string());
        views.push(view(&rename(&tensor.name), ty, &key, &torch_shape(checkpoint, index)));
        storages.push((key, data(checkpoint, index)));
    }
    let storages: Vec<_> = storages.iter().map(|(key, data)| (key.as_str(), &data[..])).collect();
    zip(&entries(&state_dict(&views), &storages))
}

/// The name that BlinkDL's own files give a tensor.
pub fn blinkdl_name(name: &str) -> String {
    let name = name.strip_prefix("rwkv.").unwrap_or(name);
    let name = name.replace("embeddings.", "emb.").replace(".pre_ln.", ".ln0.");
    name.replace(".attention.", ".att.").replace(".feed_forward.", ".ffn.")
}
