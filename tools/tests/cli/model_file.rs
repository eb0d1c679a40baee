//! A safetensors file taken apart, so that a test can change any of it.

use std::fs;
use std::path::Path;

use serde_json::{json, Map, Value};

/// One tensor, as the header has it.
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// All tensors of a file, in the order of its data.
pub struct ModelFile(pub Vec<Tensor>);

impl ModelFile {
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let (header, data) = file[8..].split_at(len);
        let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
        let mut tensors: Vec<(u64, Tensor)> = header
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .map(|(name, entry)| {
                let number = |value: &Value| value.as_u64().unwrap();
                let (start, end) =
                    (number(&entry["data_offsets"][0]), number(&entry["data_offsets"][1]));
                let tensor = Tensor {
                    name,
                    dtype: entry["dtype"].as_str().unwrap().into(),
                    shape: entry["shape"].as_array().unwrap().iter().map(number).collect(),
                    bytes: data[start as usize..end as usize].to_vec(),
                };
                (start, tensor)
            })
            .collect();
        tensors.sort_by_key(|(start, _)| *start);
        Self(tensors.into_iter().map(|(_, tensor)| tensor).collect())
    }

    pub fn write(&self, path: &Path) {
        let mut header = Map::new();
        let mut data: Vec<u8> = Vec::new();
        for Tensor { name, dtype, shape, bytes } in &self.0 {
            let offsets = [data.len(), data.len() + bytes.len()];
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
            header.insert(name.clone(), entry);
            data.extend(bytes);
        }
        let header = Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(data);
        fs::write(path, file).unwrap();
    }

    /// Changes the file at `path`.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) {
        let mut model = Self::read(path);
        change(&mut model);
        model.write(path);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let tensor = self.0.iter_mut().find(|tensor| tensor.name == name);
        tensor.unwrap_or_else(|| panic!("no {name}"))
    }
}

impl Tensor {
    /// Puts `value` into an f32 tensor.
    pub fn set(&mut self, index: usize, value: f32) {
        assert_eq!(self.dtype, "F32");
        self.bytes[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}
