//! The pickle in a PyTorch file, read without running anything.
//!
//! In: the bytes of `data.pkl`. Out: the tensors of the state dict, as it declares them; where the
//! data is and whether it is all there is checked by `torch_zip`. A pickle is a program: of its
//! instructions only those are known that build values, and of the functions it may name only
//! those that describe tensors. All else is refused (allowed by list, not forbidden by list).
//! Time and memory are linear in the length of the pickle and bounded.

mod input;
mod machine;
mod opcode;
mod value;

pub(super) use value::{ElementType, Storage};

use super::json::{MAX_NAME_BYTES, MAX_TENSORS};
use super::stored::too_many_dimensions;
use value::{DictId, Heap, TensorId, TupleId, Value};

/// A tensor as the pickle declares it.
#[derive(Debug)]
pub(super) struct Declared<'p> {
    pub(super) name: &'p str,
    pub(super) storage: Storage<'p>,
    /// Element of the storage that is the tensor's first.
    pub(super) offset: u64,
    /// Slowest dimension first; four at most.
    pub(super) dims: Vec<u64>,
    /// Elements from one to the next along each dimension.
    pub(super) strides: Vec<u64>,
}

/// The tensors of the dict that `pickle` makes, or of the dict that it holds as its only one.
pub(super) fn state_dict(pickle: &[u8]) -> Result<Vec<Declared<'_>>, String> {
    let (heap, result) = machine::run(pickle)?;
    let Value::Dict(top) = result else {
        return Err("the pickle does not make a dict of tensors".into());
    };
    let dict = wrapped(&heap, top).unwrap_or(top);
    let entries = heap.entries(dict);
    if entries.is_empty() {
        return Err("no tensors in it".into());
    }
    if entries.len() > MAX_TENSORS {
        let n = entries.len();
        return Err(format!("tensor count {n} exceeds limit {MAX_TENSORS}"));
    }
    entries.iter().map(|(key, value)| declared(&heap, key, value)).collect()
}

/// The one dict in `top`, as in `{"state_dict": .., "epoch": 3}`, if all else is no more than
/// remarks.
fn wrapped(heap: &Heap<'_>, top: DictId) -> Option<DictId> {
    let mut found = None;
    for (_, value) in heap.entries(top) {
        match value {
            Value::Dict(dict) if found.is_none() => found = Some(*dict),
            Value::Scalar | Value::Int(_) | Value::Text(_) => {}
            _ => return None,
        }
    }
    found
}

fn declared<'p>(
    heap: &Heap<'p>,
    key: &Value<'p>,
    value: &Value<'p>,
) -> Result<Declared<'p>, String> {
    let Value::Text(name) = *key else {
        return Err("a key of the state dict is not a text".into());
    };
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        let n = name.len();
        return Err(format!("tensor name of {n} bytes (1 to {MAX_NAME_BYTES} allowed, no NUL)"));
    }
    match *value {
        Value::Tensor(id) => {
            tensor(heap, name, id).map_err(|what| format!("tensor {name:?}: {what}"))
        }
        _ => Err(format!("entry {name:?} is not a tensor")),
    }
}

fn tensor<'p>(heap: &Heap<'p>, name: &'p str, id: TensorId) -> Result<Declared<'p>, String> {
    let tensor = heap.get_tensor(id);
    let (dims, strides) = (numbers(heap, tensor.shape)?, numbers(heap, tensor.strides)?);
    if dims.len() != strides.len() {
        return Err(format!("{} dimensions but {} strides", dims.len(), strides.len()));
    }
    let offset =
        u64::try_from(tensor.offset).map_err(|_| format!("storage offset {}", tensor.offset))?;
    Ok(Declared { name, storage: heap.get_storage(tensor.storage), offset, dims, strides })
}

/// The numbers of a shape or of strides.
fn numbers(heap: &Heap<'_>, id: TupleId) -> Result<Vec<u64>, String> {
    let items = heap.items(id);
    if items.len() > 4 {
        return Err(too_many_dimensions(items.len()));
    }
    let number = |item: &Value<'_>| match item {
        Value::Int(n) => u64::try_from(*n).map_err(|_| format!("{n} in its shape or strides")),
        _ => Err("its shape or strides are not integers".into()),
    };
    items.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"w": a tensor of 2 x 3}`
    const PICKLE: &[u8] = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage\
        ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\x00(K\x02K\x03t(K\x03K\x01t\x89NtRs.";

    #[test]
    fn on_slices_no_change_panics() {
        let tensors = state_dict(PICKLE).unwrap();
        let [Declared { name: "w", storage, offset: 0, dims, strides }] = &tensors[..] else {
            panic!("{tensors:?}")
        };
        assert_eq!((dims, strides, storage.n_elements), (&vec![2, 3], &vec![3, 1], 6));
        for n in 0..PICKLE.len() {
            state_dict(&PICKLE[..n]).unwrap_err();
            for change in [1, 0x80, 0xff] {
                let mut changed = PICKLE.to_vec();
                changed[n] ^= change;
                let _ = state_dict(&changed);
            }
        }
    }
}
