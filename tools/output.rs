//! Writing results: stdout whose reader may leave, files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use comfy_table::{presets, CellAlignment, Table};
use rwkvq::convert::refuse_inputs;
use rwkvq::gguf::{partial_path, stale_partials};
use rwkvq::{Error, Result};
use tempfile::NamedTempFile;

/// Writes `text` to stdout.
pub fn print(text: &str) -> Result<()> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(|e| Error::io("stdout", e))
}

/// Writes a value that has become JSON to stdout, as lines.
pub fn print_json(json: serde_json::Result<String>) -> Result<()> {
    print(&(json.map_err(|e| Error::self_check(e.to_string()))? + "\n"))
}

/// A table whose first `n_texts` columns are texts or names and whose others are numbers.
pub fn table(header: &[&str], n_texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(n_texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Fails if a result must not take the place of what is at `path`: of a folder or a device, or of
/// one of `inputs`, under whatever name.
pub fn check_target<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let Ok(target) = fs::metadata(path) else { return Ok(()) };
    if !target.is_file() {
        return Err(Error::argument(format!("{} is not a regular file", path.display())));
    }
    refuse_inputs(path, inputs)
}

/// Says what killed runs have left beside a result.
pub fn tell_partials(path: &Path) {
    for partial in stale_partials(path) {
        let partial = partial.display();
        eprintln!("warning: {partial} is left from a run that was killed; it can be removed");
    }
}

/// Writes a file of bytes: into a temporary file of the same folder, then renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    check_target(path, [])?;
    tell_partials(path);
    let mut file = partial_beside(path)?;
    file.write_all(bytes).map_err(|e| Error::io(path, e))?;
    put_in_place(file, path)
}

/// The folder that `path` lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary file in the folder of `path`, which goes away unless it is put in place. Its name is
/// that of every partial file: one that a kill leaves is told of.
fn partial_beside(path: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    tempfile::Builder::new()
        .prefix(partial_path(path)?.file_name().unwrap_or_default())
        .rand_bytes(0)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|e| Error::io(folder, e))
}

/// Gives a whole file its name, once it is on the disk.
fn put_in_place(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    sync_folder(path)
}

/// Makes it last that `path` has its name.
pub fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    synced.map_err(|e| {
        let what = format!("the file is in place, but its folder cannot be synced: {e}");
        Error::io(path, io::Error::new(e.kind(), what))
    })
}

/// Text from a file, for one line of a terminal: what would end the line or steer the terminal is
/// shown as a mark.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Bytes as people read them: `1.01 GB`, decimal units.
pub fn human_bytes(n: u64) -> String {
    let n = n as f64;
    let (scaled, unit) = match n {
        n if n >= 1e9 => (n / 1e9, "GB"),
        n if n >= 1e6 => (n / 1e6, "MB"),
        n if n >= 1e3 => (n / 1e3, "kB"),
        n => return format!("{n} B"),
    };
    format!("{scaled:.2} {unit}")
}
