//! What a pickle can make: values, and the heap that owns those with parts.
//!
//! A value is small and copied; tuples, dicts, storages and tensors are numbers of entries in a
//! [`Heap`]. So nothing is owned twice, values that contain themselves do no harm, dropping is one
//! loop, and memory grows with the number of instructions only, however often a value is used.

use std::fmt;

use crate::error::shown;
use crate::ggml::TensorType;

/// How deep tuples may be nested: arguments that hold a shape.
const MAX_DEPTH: u8 = 2;

/// Anything on the stack. Texts are parts of the pickle itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'p> {
    /// None, a bool or a float; which one never matters.
    Scalar,
    Int(i64),
    Text(&'p str),
    Global(Global),
    Tuple(TupleId),
    Dict(DictId),
    Storage(StorageId),
    Tensor(TensorId),
}

/// The functions and classes a checkpoint may ask for. None is a function of ours that does
/// anything but note its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(ElementType),
}

/// What a storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) enum ElementType {
    /// Weights we can read.
    Float(TensorType),
    /// Another type, by the name PyTorch gives to storages of it.
    Other(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TupleId(usize);

#[derive(Clone, Copy, Debug)]
pub(super) struct DictId(usize);

#[derive(Clone, Copy, Debug)]
pub(super) struct StorageId(usize);

#[derive(Clone, Copy, Debug)]
pub(super) struct TensorId(usize);

/// A run of elements in an entry of the zip.
#[derive(Clone, Copy, Debug)]
pub(in crate::checkpoint) struct Storage<'p> {
    /// Name of the entry.
    pub(in crate::checkpoint) key: &'p str,
    pub(in crate::checkpoint) ty: ElementType,
    pub(in crate::checkpoint) n_elements: i64,
}

/// A view of a storage; nothing about it has been checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    pub(super) storage: StorageId,
    pub(super) offset: i64,
    pub(super) shape: TupleId,
    pub(super) strides: TupleId,
}

#[derive(Clone, Copy, Debug)]
struct Tuple {
    start: usize,
    end: usize,
    depth: u8,
}

/// Owner of everything that has parts.
#[derive(Debug, Default)]
pub(super) struct Heap<'p> {
    items: Vec<Value<'p>>,
    tuples: Vec<Tuple>,
    dicts: Vec<Vec<(Value<'p>, Value<'p>)>>,
    storages: Vec<Storage<'p>>,
    tensors: Vec<Tensor>,
}

impl Global {
    /// The global `name` of `module`, if a checkpoint may ask for it.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, String> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(ElementType::Float(TensorType::F32)),
            ("torch", "HalfStorage") => Self::Storage(ElementType::Float(TensorType::F16)),
            ("torch", "BFloat16Storage") => Self::Storage(ElementType::Float(TensorType::BF16)),
            // Known, so that the message names the tensor.
            ("torch", "DoubleStorage") => Self::Storage(ElementType::Other("DoubleStorage")),
            ("torch", "LongStorage") => Self::Storage(ElementType::Other("LongStorage")),
            ("torch", "IntStorage") => Self::Storage(ElementType::Other("IntStorage")),
            ("torch", "ShortStorage") => Self::Storage(ElementType::Other("ShortStorage")),
            ("torch", "CharStorage") => Self::Storage(ElementType::Other("CharStorage")),
            ("torch", "ByteStorage") => Self::Storage(ElementType::Other("ByteStorage")),
            ("torch", "BoolStorage") => Self::Storage(ElementType::Other("BoolStorage")),
            _ => {
                let (module, name) = (shown(module), shown(name));
                return Err(format!("checkpoint asks for {module}.{name}, which is not allowed"));
            }
        })
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OrderedDict => "collections.OrderedDict",
            Self::RebuildTensor => "torch._utils._rebuild_tensor_v2",
            Self::RebuildParameter => "torch._utils._rebuild_parameter",
            Self::Storage(_) => "a storage",
        })
    }
}

impl<'p> Heap<'p> {
    pub(super) fn tuple(&mut self, items: &[Value<'p>]) -> Result<Value<'p>, String> {
        let depth = |value: &Value<'p>| match value {
            Value::Tuple(id) => self.tuples.get(id.0).map_or(0, |tuple| tuple.depth),
            _ => 0,
        };
        let depth = items.iter().map(depth).max().unwrap_or(0).saturating_add(1);
        if depth > MAX_DEPTH {
            return Err("tuples nested too deeply".into());
        }
        let start = self.items.len();
        self.items.extend_from_slice(items);
        let tuple = Tuple { start, end: self.items.len(), depth };
        Ok(Value::Tuple(TupleId(pushed(&mut self.tuples, tuple))))
    }

    pub(super) fn dict(&mut self) -> Value<'p> {
        Value::Dict(DictId(pushed(&mut self.dicts, Vec::new())))
    }

    pub(super) fn storage(&mut self, storage: Storage<'p>) -> Value<'p> {
        Value::Storage(StorageId(pushed(&mut self.storages, storage)))
    }

    pub(super) fn tensor(&mut self, tensor: Tensor) -> Value<'p> {
        Value::Tensor(TensorId(pushed(&mut self.tensors, tensor)))
    }
}

/// Puts `value` at the end and returns its index.
fn pushed<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    values.len().saturating_sub(1)
}

#[expect(
    clippy::indexing_slicing,
    reason = "a number of an entry is made where the entry is, and no entry ever goes away"
)]
impl<'p> Heap<'p> {
    pub(super) fn insert(&mut self, dict: DictId, key: Value<'p>, value: Value<'p>) {
        self.dicts[dict.0].push((key, value));
    }

    /// What is in a tuple.
    pub(super) fn items(&self, id: TupleId) -> &[Value<'p>] {
        let Tuple { start, end, .. } = self.tuples[id.0];
        &self.items[start..end]
    }

    /// Keys and values in the order in which they came; a key may come twice.
    pub(super) fn entries(&self, id: DictId) -> &[(Value<'p>, Value<'p>)] {
        &self.dicts[id.0]
    }

    pub(super) fn get_storage(&self, id: StorageId) -> Storage<'p> {
        self.storages[id.0]
    }

    pub(super) fn get_tensor(&self, id: TensorId) -> Tensor {
        self.tensors[id.0]
    }
}
