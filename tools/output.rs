//! Writing results: stdout whose reader may leave, files that are whole or not there.

use std::io::{self, Write};
use std::path::Path;

use rwkvq::{Error, Result};

/// Writes `text` to stdout.
pub fn print(text: &str) -> Result<()> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(|e| Error::io("stdout", e))
}

/// Writes a file of bytes: into a temporary file of the same folder, then renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".rwkvq-")
        .suffix(".partial")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|e| Error::io(folder, e))?;
    file.write_all(bytes).map_err(|e| Error::io(path, e))?;
    file.as_file().sync_all().map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    Ok(())
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
