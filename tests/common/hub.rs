//! A stand-in for the hub on this machine: what its answers look like, and what can go wrong.
//!
//! As the real one it lists a repository with sizes and hashes, redirects small files to another
//! path of its own and large ones to another host, and answers parts of a file. Every request is
//! kept for the tests to look at.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// One request that came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// True if it came to the host that holds the large files.
    pub at_files: bool,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// The next answers with content end after so many bytes.
    pub cuts: VecDeque<usize>,
    /// Whole files whatever part was asked for.
    pub ignore_range: bool,
    /// The first byte of every content is another one.
    pub wrong_content: bool,
    /// Headers of a file, in place of the right ones.
    pub linked_etag: Option<String>,
    pub linked_size: Option<String>,
    pub commit: Option<String>,
    /// Content goes on after its end, and its length is not told.
    pub endless: bool,
    /// The next requests to the hub get these answers.
    pub statuses: VecDeque<u16>,
    /// The listing tells names only.
    pub bare_listing: bool,
    /// The listing itself.
    pub listing: Option<String>,
    /// Every file redirects to itself.
    pub circle: bool,
}

/// A repository.
#[derive(Debug, Clone)]
pub struct Repo {
    pub kind: &'static str,
    pub id: String,
    /// Only with this token.
    pub token: Option<String>,
    /// Not even with a token.
    pub gated: bool,
    pub revisions: Vec<(String, Commit)>,
}

/// The files of a repository at a commit.
#[derive(Debug, Clone)]
pub struct Commit {
    pub hash: String,
    pub files: Vec<(String, Vec<u8>)>,
}

impl Commit {
    /// The files of a folder, with a hash made of `seed`.
    pub fn of_folder(seed: &str, folder: &Path) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        Self { hash: hex(&Sha1::digest(seed)), files }
    }

    pub fn of_files(seed: &str, files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec()));
        Self { hash: hex(&Sha1::digest(seed)), files: files.collect() }
    }
}

#[derive(Debug, Default)]
struct State {
    repos: Vec<Repo>,
    faults: Faults,
    log: Vec<Request>,
}

/// The running server. It ends with the process.
pub struct StandIn {
    pub endpoint: String,
    files: String,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    pub fn start(repos: Vec<Repo>) -> Self {
        let state = Arc::new(Mutex::new(State { repos, ..State::default() }));
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (endpoint, files_at) = (address(&hub), address(&files));
        for (listener, at_files) in [(hub, false), (files, true)] {
            let (state, files_at) = (state.clone(), files_at.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, files_at) = (state.clone(), files_at.clone());
                    std::thread::spawn(move || serve(stream, at_files, &files_at, &state));
                }
            });
        }
        Self { endpoint, files: files_at, state }
    }

    /// Sets what goes wrong from now on.
    pub fn faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Replaces the repositories.
    pub fn repos(&self, repos: Vec<Repo>) {
        self.lock().repos = repos;
    }

    /// The requests since the last call.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().log)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A model that anybody may have, at `main`.
pub fn public(id: &str, commit: Commit) -> Repo {
    let revisions = vec![("main".into(), commit)];
    Repo { kind: "model", id: id.into(), token: None, gated: false, revisions }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What git calls a file with this content.
pub fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

/// The hash by which the hub knows a file.
pub fn hub_hash(name: &str, bytes: &[u8]) -> String {
    if is_large(name) {
        sha256(bytes)
    } else {
        git_hash(bytes)
    }
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".parquet"].iter().any(|ending| name.ends_with(ending))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(mut stream: TcpStream, at_files: bool, files_at: &str, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let token = header("authorization").map(|value| value.replace("Bearer ", ""));
    let request = Request { at_files, path, range: header("range"), token };
    let answer = {
        let mut state = state.lock().unwrap();
        state.log.push(request.clone());
        answer(&request, files_at, &mut state)
    };
    let _ = stream.write_all(answer.head.as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(&answer.body);
    }
    let _ = stream.flush();
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

fn plain(status: u16, headers: &str, body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    Answer { head, body: body.into() }
}

fn answer(request: &Request, files_at: &str, state: &mut State) -> Answer {
    if request.at_files {
        let hash = request.path.trim_start_matches("/blobs/").split('?').next().unwrap();
        let all = state.repos.iter().flat_map(|repo| &repo.revisions);
        let mut files = all.flat_map(|(_, commit)| &commit.files);
        let found = files.find(|(_, bytes)| sha256(bytes) == hash).map(|(_, bytes)| bytes.clone());
        return content(&found.unwrap(), "", request, &mut state.faults);
    }
    if let Some(status) = state.faults.statuses.pop_front() {
        return plain(status, "", b"");
    }
    if let Some(rest) = request.path.strip_prefix("/api/resolve-cache/") {
        return small(rest, request, state);
    }
    if let Some(rest) = request.path.strip_prefix("/api/") {
        return listing(rest, request, state);
    }
    file(request, files_at, state)
}

/// The repository, if it may be seen; else the answer that says why not.
fn repository(kind: &str, id: &str, request: &Request, state: &State) -> Result<Repo, Answer> {
    let known = state.repos.iter().find(|repo| repo.kind == kind && repo.id == id);
    let tokens = state.repos.iter().filter_map(|repo| repo.token.as_ref());
    match (known, &request.token) {
        (_, Some(token)) if !tokens.clone().any(|good| good == token) && tokens.count() > 0 => {
            Err(plain(401, "X-Error-Message: Invalid credentials\r\n", b""))
        }
        (Some(repo), _) if repo.gated => Err(plain(403, "X-Error-Code: GatedRepo\r\n", b"")),
        (Some(repo), token) if repo.token.is_none() || repo.token == *token => Ok(repo.clone()),
        // The hub does not tell strangers whether a repository is private or not there.
        (_, None) => Err(plain(401, "X-Error-Code: RepoNotFound\r\n", b"")),
        _ => Err(plain(404, "X-Error-Code: RepoNotFound\r\n", b"")),
    }
}

fn find_commit<'a>(repo: &'a Repo, revision: &str) -> Option<&'a Commit> {
    let is_it = |(name, commit): &&(String, Commit)| name == revision || commit.hash == revision;
    repo.revisions.iter().find(is_it).map(|(_, commit)| commit)
}

/// `models/owner/name/revision/main?blobs=true`
fn listing(rest: &str, request: &Request, state: &State) -> Answer {
    let path = rest.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let [kinds, owner, name, _, revision] = parts[..] else { return plain(404, "", b"") };
    let id = format!("{owner}/{name}");
    let repo = match repository(kinds.trim_end_matches('s'), &id, request, state) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let Some(commit) = find_commit(&repo, &revision.replace("%2F", "/")) else {
        return plain(404, "X-Error-Code: RevisionNotFound\r\n", b"");
    };
    if let Some(listing) = &state.faults.listing {
        return plain(200, "", listing.as_bytes());
    }
    let siblings: Vec<String> = commit
        .files
        .iter()
        .map(|(name, bytes)| {
            let (n, git) = (bytes.len(), git_hash(bytes));
            let lfs = match is_large(name) {
                true => format!(
                    ",\"lfs\":{{\"sha256\":\"{}\",\"size\":{n},\"pointerSize\":134}}",
                    sha256(bytes)
                ),
                false => String::new(),
            };
            match state.faults.bare_listing {
                true => format!("{{\"rfilename\":\"{name}\"}}"),
                false => {
                    format!("{{\"rfilename\":\"{name}\",\"size\":{n},\"blobId\":\"{git}\"{lfs}}}")
                }
            }
        })
        .collect();
    let json = format!(
        "{{\"id\":\"{id}\",\"sha\":\"{}\",\"siblings\":[{}]}}",
        commit.hash,
        siblings.join(",")
    );
    plain(200, "Content-Type: application/json\r\n", json.as_bytes())
}

/// `/owner/name/resolve/commit/file`, with `/datasets` in front for those.
fn file(request: &Request, files_at: &str, state: &State) -> Answer {
    let path = request.path.trim_start_matches('/');
    let (kind, path) = match path.strip_prefix("datasets/") {
        Some(path) => ("dataset", path),
        None => ("model", path),
    };
    let parts: Vec<&str> = path.splitn(5, '/').collect();
    let [owner, name, _, revision, file] = parts[..] else { return plain(404, "", b"") };
    let id = format!("{owner}/{name}");
    let repo = match repository(kind, &id, request, state) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let Some(commit) = find_commit(&repo, revision) else {
        return plain(404, "X-Error-Code: RevisionNotFound\r\n", b"");
    };
    let Some((_, bytes)) = commit.files.iter().find(|(name, _)| name == file) else {
        return plain(404, "X-Error-Code: EntryNotFound\r\n", b"");
    };
    let faults = &state.faults;
    if faults.circle {
        return plain(307, &format!("Location: {}\r\n", request.path), b"");
    }
    let sent_from = faults.commit.clone().unwrap_or_else(|| commit.hash.clone());
    if !is_large(file) {
        let to = format!("/api/resolve-cache/{kind}s/{id}/{}/{file}", commit.hash);
        return plain(307, &format!("Location: {to}\r\nX-Repo-Commit: {sent_from}\r\n"), b"");
    }
    let hash = sha256(bytes);
    let etag = faults.linked_etag.clone().unwrap_or_else(|| hash.clone());
    let size = faults.linked_size.clone().unwrap_or_else(|| bytes.len().to_string());
    let headers = format!(
        "Location: {files_at}/blobs/{hash}?signature=x\r\nX-Repo-Commit: {sent_from}\r\n\
         X-Linked-ETag: \"{etag}\"\r\nX-Linked-Size: {size}\r\n"
    );
    plain(302, &headers, b"Found. Redirecting")
}

/// `models/owner/name/commit/file`
fn small(rest: &str, request: &Request, state: &mut State) -> Answer {
    let parts: Vec<&str> = rest.splitn(5, '/').collect();
    let [kinds, owner, name, revision, file] = parts[..] else { return plain(404, "", b"") };
    let id = format!("{owner}/{name}");
    let repo = match repository(kinds.trim_end_matches('s'), &id, request, state) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let commit = find_commit(&repo, revision).unwrap();
    let bytes = &commit.files.iter().find(|(name, _)| name == file).unwrap().1;
    let headers = format!("ETag: \"{}\"\r\nX-Repo-Commit: {}\r\n", git_hash(bytes), commit.hash);
    content(bytes, &headers, request, &mut state.faults)
}

/// The bytes of a file, or of the part asked for.
fn content(bytes: &[u8], headers: &str, request: &Request, faults: &mut Faults) -> Answer {
    let mut bytes = bytes.to_vec();
    if let Some(first) = bytes.first_mut().filter(|_| faults.wrong_content) {
        *first ^= 1;
    }
    let range = request.range.as_ref().filter(|_| !faults.ignore_range);
    let from = range.map(|range| {
        let text = range.trim_start_matches("bytes=").trim_end_matches('-');
        text.parse::<usize>().unwrap()
    });
    let n = bytes.len();
    let mut answer = match from {
        None if faults.endless => {
            bytes.extend(b"more than was said");
            let head = format!("HTTP/1.1 200 x\r\nConnection: close\r\n{headers}\r\n");
            Answer { head, body: bytes }
        }
        None => plain(200, headers, &bytes),
        Some(from) if from >= n => plain(416, &format!("Content-Range: bytes */{n}\r\n"), b""),
        Some(from) => {
            let range = format!("Content-Range: bytes {from}-{}/{n}\r\n{headers}", n - 1);
            plain(206, &range, &bytes[from..])
        }
    };
    if let Some(cut) = faults.cuts.pop_front() {
        answer.body.truncate(cut);
    }
    answer
}
