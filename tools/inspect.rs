//! `rwkvq inspect`: what a GGUF says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use comfy_table::{presets, CellAlignment, Table};
use rwkvq::gguf::{Array, GgufFile, Value};
use rwkvq::Result;
use serde_json::json;

use crate::memory::Memory;
use crate::output::{human_bytes, print, printable};

/// Show header, metadata and tensors of a GGUF
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF of any architecture
    file: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Compute the SHA-256 of the file
    #[arg(long)]
    hash: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    memory: Memory,
}

pub fn run(args: &Args) -> Result<()> {
    let file = GgufFile::open_with(&args.file, args.memory.access())?;
    // A second, independent decoder must see the same names, types and offsets.
    file.cross_check()?;
    let hash = args.hash.then(|| file.sha256()).transpose()?;
    if args.json {
        print_json(args, &file, hash)
    } else {
        print_text(args, &file, hash)
    }
}

/// Tensors and bytes of each type.
fn by_type(file: &GgufFile) -> BTreeMap<String, (usize, u64)> {
    let mut types = BTreeMap::new();
    for tensor in file.tensors() {
        let entry: &mut (usize, u64) = types.entry(tensor.ty.name()).or_default();
        entry.0 += 1;
        entry.1 += tensor.bytes;
    }
    types
}

fn bits_per_weight(file: &GgufFile) -> Option<f64> {
    let weights: f64 = file.tensors().iter().map(|tensor| tensor.shape.n_elements() as f64).sum();
    let bytes: f64 = file.tensors().iter().map(|tensor| tensor.bytes as f64).sum();
    (weights > 0.0).then(|| bytes * 8.0 / weights)
}

fn print_json(args: &Args, file: &GgufFile, hash: Option<String>) -> Result<()> {
    let tensors: Vec<_> = file
        .tensors()
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "type": tensor.ty.name(),
                "shape": tensor.shape.dims(),
                "bytes": tensor.bytes,
                "offset": tensor.offset,
            })
        })
        .collect();
    let types: BTreeMap<_, _> = by_type(file).into_iter().map(|(name, (n, _))| (name, n)).collect();
    let mut all = json!({
        "version": file.version(),
        "file_bytes": file.file_bytes(),
        "alignment": file.alignment(),
        "data_offset": file.data_offset(),
        "n_tensors": file.tensors().len(),
        "bits_per_weight": bits_per_weight(file),
        "tensor_types": types,
        "sha256": hash,
        "metadata": file.metadata_json(),
    });
    if args.tensors {
        all["tensors"] = tensors.into();
    }
    print(&format!("{all:#}\n"))
}

fn print_text(args: &Args, file: &GgufFile, hash: Option<String>) -> Result<()> {
    let mut text = format!(
        "{}: GGUF version {}, {}, {} tensors, {} keys, alignment {}, data from byte {}\n",
        file.path().display(),
        file.version(),
        human_bytes(file.file_bytes()),
        file.tensors().len(),
        file.metadata().len(),
        file.alignment(),
        file.data_offset(),
    );
    if let Some(bpw) = bits_per_weight(file) {
        text += &format!("{bpw:.3} bits per weight:");
        for (name, (n, bytes)) in by_type(file) {
            text += &format!(" {name} x {n} ({})", human_bytes(bytes));
        }
        text += "\n";
    }
    if let Some(hash) = hash {
        text += &format!("sha256 {hash}\n");
    }
    text += "\n";
    for (key, value) in file.metadata() {
        text += &format!("{} = {}\n", printable(key), short(value));
    }
    if args.tensors {
        text += &format!("\n{}\n", tensor_table(file));
    }
    print(&text)
}

fn tensor_table(file: &GgufFile) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["tensor", "type", "shape", "bytes", "offset"]);
    for tensor in file.tensors() {
        table.add_row([
            printable(&tensor.name),
            tensor.ty.name(),
            tensor.shape.to_string(),
            tensor.bytes.to_string(),
            tensor.offset.to_string(),
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A value on one line: strings quoted and cut, arrays by type and length.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > 80 => {
            let cut: String = text.chars().take(80).collect();
            format!("{cut:?}... ({} bytes)", text.len())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(array) => {
            let head = match array {
                Array::String(values) => {
                    values.iter().take(4).map(|text| format!("{text:?}, ")).collect::<String>()
                }
                _ => String::new(),
            };
            format!("[{head}... {} x {}]", array.len(), array.element_name())
        }
        other => format!("{} ({})", other.to_json(), other.type_name()),
    }
}
