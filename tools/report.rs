//! `rwkvq report`: reports as a page, as figures, or as tables on stdout.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rwkvq::eval::{table, Report};
use rwkvq::{Error, Result};

use crate::output::{check_target, print};

/// Largest report; those of the largest models have about one megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// Show reports: as one HTML page, as figures, or as tables
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Reports that eval has written
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// Write one page here that needs nothing else
    #[arg(long, short = 'o', visible_alias = "output", value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the figures as SVG into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Write the figures as PNG into this folder
    #[arg(long, value_name = "DIR")]
    png: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(page) = &args.html {
        check_target(page, args.reports.iter().map(PathBuf::as_path))?;
    }
    let reports = args.reports.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    if args.html.is_none() && args.svg.is_none() && args.png.is_none() {
        let tables: Vec<String> = reports.iter().map(table::render).collect();
        return print(&tables.join("\n"));
    }
    pictures::write(args, &reports)
}

/// A report from a file.
pub fn open(path: &Path) -> Result<Report> {
    Report::from_json(path, &read(path, MAX_BYTES)?)
}

/// The text of a file of at most `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::unsupported(path, format!("larger than {} MiB", max_bytes >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| Error::malformed(path, "not UTF-8"))
}

#[cfg(feature = "pictures")]
mod pictures {
    use std::fs;
    use std::path::Path;

    use rwkvq::eval::report::Run;
    use rwkvq::eval::Report;
    use rwkvq::figures::{self, to_png, Figure};
    use rwkvq::{page, Error, Result};

    use super::Args;
    use crate::output::write_file;

    /// Pixels of a PNG for each of the figure's own: enough for print.
    const SCALE: u32 = 2;

    pub fn write(args: &Args, reports: &[Report]) -> Result<()> {
        for folder in args.svg.iter().chain(&args.png) {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let several = reports.iter().map(|report| report.runs.len()).sum::<usize>() > 1;
        for (i, run) in reports.iter().flat_map(|report| &report.runs).enumerate() {
            for figure in figures::of_run(run)? {
                let name = file_name(several.then_some(i + 1), run, &figure);
                if let Some(folder) = &args.svg {
                    put(&folder.join(&name).with_extension("svg"), figure.wide.as_bytes())?;
                }
                if let Some(folder) = &args.png {
                    put(&folder.join(&name).with_extension("png"), &to_png(&figure.wide, SCALE)?)?;
                }
            }
        }
        args.html.as_ref().map_or(Ok(()), |path| put(path, page::render(reports)?.as_bytes()))
    }

    fn put(path: &Path, bytes: &[u8]) -> Result<()> {
        write_file(path, bytes)?;
        eprintln!("wrote {}", path.display());
        Ok(())
    }

    /// `mrpc-dev-native-memory`, after a number where there are several runs. Names come from a
    /// report: nothing but letters, digits and hyphens remains of them.
    fn file_name(number: Option<usize>, run: &Run, figure: &Figure) -> String {
        let number = number.map(|number| number.to_string());
        let split = run.dataset.split.as_deref();
        let parts = number.as_deref().into_iter().chain([run.dataset.name.as_str()]);
        let parts = parts.chain(split).chain([run.protocol.as_str()]);
        let mut name = String::new();
        for part in parts {
            let kept = part.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40);
            name.extend(kept.chain(['-']));
        }
        name.to_lowercase() + figure.name
    }
}

#[cfg(not(feature = "pictures"))]
mod pictures {
    use rwkvq::eval::Report;
    use rwkvq::{Error, Result};

    pub fn write(_: &super::Args, _: &[Report]) -> Result<()> {
        Err(Error::argument(
            "this rwkvq was built without pictures; build it with the feature pictures, or leave \
             --html, --svg and --png out for tables",
        ))
    }
}
