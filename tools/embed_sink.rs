//! Where `rwkvq embed` writes: stdout, or a file that appears under its name when it is whole.
//!
//! Until then a file is called `OUT.partial`. Where the input can be read again, a record beside it
//! says after some groups of texts how far both have come; from then on a run that is killed leaves
//! them, and one that ends too early in another way leaves them after the first group. Data is on
//! the disk before the record that counts it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rwkvq::{Error, Result};

use crate::embed_format::{Format, Layout};
use crate::embed_input::Place;
use crate::embed_resume::{partial_path, record_path, Job, Reached, Record};
use crate::output::sync_folder;

/// Takes embeddings in order and writes them.
pub struct Sink {
    path: PathBuf,
    layout: Layout,
    n_texts: u64,
    /// Bytes written, those of an earlier run included.
    n_bytes: u64,
    out: Out,
}

enum Out {
    Stdout(BufWriter<io::Stdout>),
    File(Box<Partial>),
}

impl Sink {
    /// Opens `path`, `-` for stdout. Without a `job` the run cannot be resumed. With `resume` it
    /// goes on after a stopped run of the same job, if there is one, and tells where its input
    /// ended.
    pub fn open(
        path: &Path,
        layout: Layout,
        job: Option<Job>,
        resume: bool,
    ) -> Result<(Self, Option<Place>)> {
        let (out, reached) = if path == Path::new("-") {
            if resume {
                return Err(Error::argument("--resume needs a file: give --output"));
            }
            if layout.format != Format::Jsonl {
                return Err(Error::argument("npy and safetensors need a file: give --output"));
            }
            (Out::Stdout(BufWriter::new(io::stdout())), None)
        } else {
            let (partial, reached) = Partial::open(path, job, resume)?;
            (Out::File(partial.into()), reached)
        };
        let (n_texts, n_bytes) = reached.as_ref().map_or((0, 0), |r| (r.n_texts, r.output_bytes));
        let mut sink = Self { path: path.into(), layout, n_texts, n_bytes, out };
        if reached.is_none() {
            let header = sink.layout.header(0);
            sink.write(&header)?;
        }
        Ok((sink, reached.map(|reached| reached.place)))
    }

    /// Writes the next text and its vectors, `[n_layers][n_embd]`.
    pub fn push(&mut self, text: &str, ids: &[u32], vectors: &[f32]) -> Result<()> {
        let bytes = self.layout.row(text, ids, vectors);
        self.n_texts += 1;
        self.write(&bytes)
    }

    /// A group is done; its input ended at `place`.
    pub fn reached(&mut self, place: Place) -> Result<()> {
        let Out::File(partial) = &mut self.out else { return Ok(()) };
        partial.reached(Reached { n_texts: self.n_texts, output_bytes: self.n_bytes, place })
    }

    /// Flushes; gives the file its name.
    pub fn finish(self) -> Result<()> {
        let header = self.layout.header(self.n_texts);
        match self.out {
            Out::Stdout(mut out) => out.flush().map_err(|e| Error::io("stdout", e)),
            Out::File(partial) => partial.finish(&header, &self.path),
        }
    }

    /// Keeps what is done of a run that ends too early; says what to do with it, if anything is.
    pub fn stop(self) -> Option<String> {
        let Out::File(mut partial) = self.out else { return None };
        if partial.is_worth_keeping() {
            partial.say_if_it_takes_long();
            // The error that led here matters more than one of this attempt.
            let _ = partial.commit();
        }
        let n_texts = partial.kept?;
        let path = partial.path.display();
        Some(format!("{n_texts} texts are kept in {path}; the same with --resume goes on"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_bytes += bytes.len() as u64;
        let result = match &mut self.out {
            Out::Stdout(out) => out.write_all(bytes),
            Out::File(partial) => partial.file.write_all(bytes),
        };
        result.map_err(|e| Error::io(&self.path, e))
    }
}

/// A commit may take a twentieth of the time, whatever the disk.
const COMMIT_SHARE: u32 = 20;

/// A file that is not whole, locked against other runs. It goes away with this value unless some
/// of it has been committed.
struct Partial {
    path: PathBuf,
    file: BufWriter<File>,
    record_path: PathBuf,
    job: Option<Job>,
    /// A place to resume from that no record tells of yet.
    pending: Option<Reached>,
    /// Texts that a later run need not compute.
    kept: Option<u64>,
    /// When there was a commit, and what it took. Before the first one: when the run began, and what
    /// the hash of the model will take that it waits for.
    last: (Instant, Duration),
    /// The file has its name.
    renamed: bool,
}

impl Partial {
    fn open(path: &Path, job: Option<Job>, resume: bool) -> Result<(Self, Option<Reached>)> {
        let (path, record_path) = (partial_path(path), record_path(path));
        let failed = |e| Error::io(&path, e);
        let mut file = open_locked(&path)?;
        let len = file.metadata().map_err(failed)?.len();
        let record = match Record::read(&record_path) {
            // A run that was killed while it finished has left a record without the file.
            Ok(record) => record.filter(|_| len > 0),
            Err(error) => {
                if len == 0 {
                    // It was not there before. Nothing can be done about a failure here.
                    let _ = fs::remove_file(&path);
                }
                return Err(error);
            }
        };
        let reached = match (record, &job) {
            (Some(Record { reached, .. }), _) if !resume => {
                return Err(Error::argument(format!(
                    "{}: {} texts of a stopped run; --resume goes on, or remove the file to begin \
                     again",
                    path.display(),
                    reached.n_texts
                )))
            }
            (Some(record), Some(job)) => {
                record.check(job.terms()?, &record_path)?;
                Some(record.reached)
            }
            _ => {
                Record::remove(&record_path)?;
                None
            }
        };
        let n_bytes = reached.as_ref().map_or(0, |reached| reached.output_bytes);
        if n_bytes > len {
            let what = format!(
                "{len} bytes, but {} counts {n_bytes}; remove the file to begin again",
                record_path.display()
            );
            return Err(Error::malformed(&path, what));
        }
        // What is beyond was not finished: it is cut and computed again.
        file.set_len(n_bytes).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        let kept = reached.as_ref().map(|reached| reached.n_texts);
        let file = BufWriter::new(file);
        let last = (Instant::now(), job.as_ref().map_or(Duration::ZERO, Job::hash_time));
        let partial =
            Self { path, file, record_path, job, pending: None, kept, last, renamed: false };
        Ok((partial, reached))
    }

    fn reached(&mut self, reached: Reached) -> Result<()> {
        self.pending = Some(reached);
        let (at, took) = self.last;
        if at.elapsed() < took * COMMIT_SHARE {
            return Ok(());
        }
        self.commit()
    }

    /// False while the hash of the model would take longer than what it is made for did.
    fn is_worth_keeping(&self) -> bool {
        let (at, took) = self.last;
        self.kept.is_some() || at.elapsed() >= took
    }

    /// A commit that has to make the hash of a large model keeps who waits for the end waiting.
    fn say_if_it_takes_long(&self) {
        const LONG: Duration = Duration::from_secs(1);
        let hash_time = self.job.as_ref().map_or(Duration::ZERO, Job::hash_time);
        if self.pending.is_some() && hash_time > LONG {
            eprintln!("note: reading the model once, so that --resume can know it again");
        }
    }

    /// Data first, then the record that counts it.
    fn commit(&mut self) -> Result<()> {
        let (Some(job), Some(reached)) = (&self.job, self.pending.take()) else { return Ok(()) };
        let terms = job.terms()?.clone();
        let begin = Instant::now();
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|e| Error::io(&self.path, e))?;
        let n_texts = reached.n_texts;
        Record { terms, reached }.write(&self.record_path)?;
        self.kept = Some(n_texts);
        self.last = (Instant::now(), begin.elapsed());
        Ok(())
    }

    fn finish(mut self, header: &[u8], path: &Path) -> Result<()> {
        let failed = |e| Error::io(&self.path, e);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.file.write_all(header).and_then(|()| self.file.flush()).map_err(failed)?;
        self.file.get_ref().sync_all().map_err(failed)?;
        fs::rename(&self.path, path).map_err(|e| Error::io(path, e))?;
        // Nothing is left to remove; another run may begin a file of this name.
        self.renamed = true;
        Record::remove(&self.record_path)?;
        sync_folder(path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.kept.is_none() && !self.renamed {
            // Nothing can be done about a failure here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens or makes the file at `path` for this process alone.
fn open_locked(path: &Path) -> Result<File> {
    let failed = |e| Error::io(path, e);
    loop {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o644);
        let file = options.open(path).map_err(failed)?;
        // Some file systems know no locks; that is no reason not to write.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = format!("{}: another run is writing it", path.display());
            return Err(Error::argument(what));
        }
        // The run that held it may have given it its name meanwhile: it is not ours then.
        let inode = file.metadata().map_err(failed)?.ino();
        if fs::metadata(path).is_ok_and(|now| now.ino() == inode) {
            return Ok(file);
        }
    }
}
