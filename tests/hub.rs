//! The hub, against a stand-in on this machine: what is asked for, what is kept, and what happens
//! when the network or the server fails.
#![cfg(feature = "hub")]

#[path = "common/hub.rs"]
mod stand_in;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use rwkvq::hub::{Hub, HubOptions, NamedDataset, RepoId};
use rwkvq::{Error, Progress, Silent};
use stand_in::{hub_hash, public, sha256, Commit, Faults, Repo, StandIn};

const ID: &str = "RWKV/v6-Finch-1B6-HF";
const WEIGHTS: &str = "model.safetensors";

/// Small files of a model; the weights are noise, since nothing here reads them.
fn commit(seed: &str) -> Commit {
    let weights: Vec<u8> =
        (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let weights = [seed.as_bytes(), &weights].concat();
    Commit::of_files(
        seed,
        &[
            ("README.md", b"not needed"),
            ("config.json", br#"{"model_type":"rwkv6"}"#),
            ("generation_config.json", b"{}"),
            (WEIGHTS, &weights),
            ("modeling_rwkv6.py", b"import os"),
            ("pytorch_model.bin", b"the same once more"),
            ("rwkv_vocab_v20230424.txt", b"1 'a' 1\n"),
        ],
    )
}

const WANTED: [&str; 4] =
    ["config.json", "generation_config.json", WEIGHTS, "rwkv_vocab_v20230424.txt"];

struct World {
    server: StandIn,
    home: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(vec![public(ID, commit("one"))])
    }

    fn with(repos: Vec<Repo>) -> Self {
        Self { server: StandIn::start(repos), home: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    fn options(&self) -> HubOptions {
        let mut options = HubOptions::new(self.server.endpoint.clone(), self.cache());
        options.pause = Duration::from_millis(1);
        options
    }

    fn offline(&self) -> HubOptions {
        HubOptions { offline: true, ..self.options() }
    }

    fn model(&self, id: &str) -> Result<PathBuf, Error> {
        get(self.options(), id)
    }

    fn folder(&self) -> PathBuf {
        self.cache().join("models--RWKV--v6-Finch-1B6-HF")
    }

    fn partial(&self, commit: &Commit) -> PathBuf {
        let hash = sha256(bytes(commit, WEIGHTS));
        self.folder().join("blobs").join(format!("{hash}.incomplete"))
    }

    /// Nothing under the name of the weights, whole or in part.
    fn assert_no_weights(&self) {
        let hash = sha256(bytes(&commit("one"), WEIGHTS));
        assert!(!self.folder().join("blobs").join(&hash).exists());
        let snapshot = self.folder().join("snapshots").join(commit("one").hash);
        assert!(snapshot.join(WEIGHTS).symlink_metadata().is_err());
        assert!(!self.folder().join("refs/main").exists());
    }
}

fn get(options: HubOptions, id: &str) -> Result<PathBuf, Error> {
    Hub::new(options)?.model(&RepoId::parse(id)?, &Silent)
}

fn bytes<'a>(commit: &'a Commit, name: &str) -> &'a [u8] {
    &commit.files.iter().find(|(file, _)| file == name).unwrap().1
}

fn assert_snapshot(folder: &Path, commit: &Commit) {
    assert_eq!(folder.file_name().unwrap().to_str(), Some(commit.hash.as_str()));
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // A link that another process is about to rename.
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, WANTED);
    for name in WANTED {
        let content = fs::read(folder.join(name)).unwrap();
        assert!(content == bytes(commit, name), "{name}");
        // As other clients of the cache have it: a relative link to a blob called by its hash.
        let target = fs::read_link(folder.join(name)).unwrap();
        let hash = hub_hash(name, &content);
        assert_eq!(target, Path::new("../../blobs").join(hash));
    }
}

#[test]
fn an_empty_cache_is_filled_with_what_is_needed_and_then_used() {
    let world = World::new();
    let folder = world.model(ID).unwrap();
    assert_snapshot(&folder, &commit("one"));
    assert_eq!(fs::read_to_string(world.folder().join("refs/main")).unwrap(), commit("one").hash);
    let asked = world.server.log();
    assert!(asked.iter().all(|request| request.range.is_none() && request.token.is_none()));
    for name in ["README.md", "modeling_rwkv6.py", "pytorch_model.bin"] {
        assert!(!asked.iter().any(|request| request.path.ends_with(name)), "{name}");
    }
    // Again: one question for the commit, no content.
    assert_eq!(world.model(ID).unwrap(), folder);
    let asked = world.server.log();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].path.starts_with("/api/models/RWKV/v6-Finch-1B6-HF/revision/main"));
    // Offline: not even that.
    assert_eq!(get(world.offline(), ID).unwrap(), folder);
    assert!(world.server.log().is_empty());
}

#[test]
fn what_the_cache_lacks_is_an_error_offline() {
    let world = World::new();
    let error = get(world.offline(), ID).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(ID) && text.contains("HF_HUB_OFFLINE"), "{text}");
    assert!(world.server.log().is_empty());
}

#[test]
fn a_cut_connection_is_resumed_where_it_was_cut() {
    let world = World::new();
    // Three small files come first; then two cuts in the weights.
    let whole = usize::MAX;
    let cuts = [whole, whole, whole, 20_000, 15_000].into();
    world.server.faults(Faults { cuts, ..Faults::default() });
    let folder = world.model(ID).unwrap();
    assert_snapshot(&folder, &commit("one"));
    let log = world.server.log();
    let ranges: Vec<_> =
        log.iter().filter(|r| r.at_files).map(|r| r.range.as_deref().unwrap_or("")).collect();
    assert_eq!(ranges, ["", "bytes=20000-", "bytes=35000-"]);
}

#[test]
fn a_run_that_gave_up_is_continued_by_the_next() {
    let world = World::new();
    let commit = commit("one");
    let cuts = [usize::MAX, usize::MAX, usize::MAX, 30_000, 0].into();
    world.server.faults(Faults { cuts, ..Faults::default() });
    let error = get(HubOptions { retries: 0, ..world.options() }, ID).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let size = bytes(&commit, WEIGHTS).len();
    let expected = format!("after 30000 of {size} bytes; run again to continue from there");
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(fs::metadata(world.partial(&commit)).unwrap().len(), 30_000);
    world.assert_no_weights();
    world.server.log();
    // What is there of it is counted as done.
    let seen = Seen::default();
    let folder = Hub::new(world.options()).unwrap().model(&RepoId::parse(ID).unwrap(), &seen);
    assert_snapshot(&folder.unwrap(), &commit);
    let log = world.server.log();
    let ranges: Vec<_> = log.iter().filter(|r| r.at_files).map(|r| r.range.clone()).collect();
    assert_eq!(ranges, [Some("bytes=30000-".to_string())]);
    assert_eq!(seen.total.load(Ordering::Relaxed), seen.done.load(Ordering::Relaxed));
    assert!(!world.partial(&commit).exists());
}

#[test]
fn a_server_that_sends_the_whole_file_again_is_understood() {
    let world = World::new();
    let cuts = [usize::MAX, usize::MAX, usize::MAX, 20_000].into();
    world.server.faults(Faults { cuts, ignore_range: true, ..Faults::default() });
    let seen = Seen::default();
    let folder = Hub::new(world.options()).unwrap().model(&RepoId::parse(ID).unwrap(), &seen);
    assert_snapshot(&folder.unwrap(), &commit("one"));
    assert_eq!(seen.total.load(Ordering::Relaxed), seen.done.load(Ordering::Relaxed));
}

#[test]
fn a_spoiled_part_is_fetched_again_as_a_whole() {
    let commit = commit("one");
    let too_long = vec![7; bytes(&commit, WEIGHTS).len() + 1];
    for part in [vec![7; 1000], vec![7; bytes(&commit, WEIGHTS).len()], too_long] {
        let world = World::new();
        let partial = world.partial(&commit);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, &part).unwrap();
        assert_snapshot(&world.model(ID).unwrap(), &commit);
    }
}

#[test]
fn a_content_that_is_not_what_the_hub_says_is_not_kept() {
    let other = "0".repeat(64);
    for (faults, expected) in [
        (Faults { wrong_content: true, ..Faults::default() }, "expected hash"),
        (Faults { linked_etag: Some(other), ..Faults::default() }, "listed with hash"),
        (Faults { linked_size: Some("7".into()), ..Faults::default() }, "sent with 7"),
        (Faults { commit: Some("1".repeat(40)), ..Faults::default() }, "sent from 1111"),
        (Faults { endless: true, ..Faults::default() }, "more than the"),
    ] {
        let world = World::new();
        world.server.faults(faults);
        let error = world.model(ID).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().starts_with(ID), "{error}");
        world.assert_no_weights();
        // The fault is over: nothing that is left stands in the way.
        world.server.faults(Faults::default());
        assert_snapshot(&world.model(ID).unwrap(), &commit("one"));
    }
}

#[test]
fn a_listing_without_hashes_leaves_them_to_the_files() {
    let world = World::new();
    world.server.faults(Faults { bare_listing: true, ..Faults::default() });
    assert_snapshot(&world.model(ID).unwrap(), &commit("one"));
}

#[test]
fn revisions_are_pinned_by_tag_and_by_commit() {
    let (old, new) = (commit("old"), commit("new"));
    let revisions = vec![
        ("main".into(), new.clone()),
        ("v1".into(), old.clone()),
        ("refs/pr/1".into(), old.clone()),
    ];
    let world = World::with(vec![Repo { revisions, ..public(ID, new.clone()) }]);
    let pinned = format!("{ID}@{}", old.hash);
    assert_snapshot(&world.model(&format!("{ID}@v1")).unwrap(), &old);
    assert_snapshot(&world.model(ID).unwrap(), &new);
    world.server.log();
    // The same commit by other names: its contents are there already.
    assert_snapshot(&world.model(&format!("{ID}@refs/pr/1")).unwrap(), &old);
    assert_snapshot(&world.model(&pinned).unwrap(), &old);
    assert!(world.server.log().iter().all(|request| request.path.starts_with("/api/models")));
    for id in [pinned.as_str(), &format!("{ID}@v1"), &format!("{ID}@refs/pr/1")] {
        assert_snapshot(&get(world.offline(), id).unwrap(), &old);
    }
    let error = world.model(&format!("{ID}@v2")).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert!(error.to_string().contains("no revision v2"), "{error}");
}

#[test]
fn what_does_not_exist_or_may_not_be_had_is_the_callers_mistake() {
    let private = Repo { token: Some("hf_good".into()), ..public("me/secret", commit("p")) };
    let gated = Repo { gated: true, ..public("me/gated", commit("g")) };
    let world = World::with(vec![public(ID, commit("one")), private, gated]);
    let with = |token: &str| HubOptions { token: Some(token.into()), ..world.options() };
    for (options, id, expected) in [
        (world.options(), "nobody/nothing", "no such model on the hub, or a private one"),
        (with("hf_good"), "nobody/nothing", "no such model on the hub; check the name"),
        (world.options(), "me/secret", "set HF_TOKEN"),
        (with("hf_bad"), "me/secret", "does not accept the token"),
        (world.options(), "me/gated", "access must be granted"),
        (with("hf_good"), "me/gated", "has no access"),
    ] {
        let error = get(options, id).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(id) && text.contains(expected), "{text}");
    }
    // A server that says no is asked once.
    assert_eq!(world.server.log().len(), 6);
    let folder = get(with("hf_good"), "me/secret").unwrap();
    assert_snapshot(&folder, &commit("p"));
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let private = Repo { token: Some("hf_good".into()), ..public(ID, commit("one")) };
    let world = World::with(vec![private]);
    get(HubOptions { token: Some("hf_good".into()), ..world.options() }, ID).unwrap();
    let log = world.server.log();
    for request in &log {
        let expected = (!request.at_files).then_some("hf_good");
        assert_eq!(request.token.as_deref(), expected, "{request:?}");
    }
    assert!(log.iter().any(|request| request.at_files));
}

#[test]
fn a_hub_that_cannot_be_reached_is_named_with_what_to_do() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://user:secret@{}", closed.local_addr().unwrap());
    drop(closed);
    let mut options = world.options();
    (options.endpoint, options.retries) = (endpoint, 1);
    let error = get(options.clone(), ID).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("cannot be reached: connection refused; check the network"), "{text}");
    assert!(text.starts_with(ID) && !text.contains("secret"), "{text}");
    // With a snapshot in the cache there is a way to go on, and it is the user's choice.
    world.model(ID).unwrap();
    let text = get(options, ID).unwrap_err().to_string();
    assert!(text.contains("HF_HUB_OFFLINE=1 uses what is in the cache"), "{text}");
}

#[test]
fn a_file_of_certificates_must_hold_some() {
    let world = World::new();
    let file = world.home.path().join("certificates.pem");
    let options = HubOptions { authorities: Some(file.clone()), ..world.options() };
    assert!(matches!(get(options.clone(), ID), Err(Error::Io { .. })));
    fs::write(&file, "not a certificate\n").unwrap();
    let error = get(options, ID).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert!(error.to_string().contains("check SSL_CERT_FILE"), "{error}");
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let world = World::new();
    world.server.faults(Faults { statuses: [503, 429, 200].into(), ..Faults::default() });
    // The empty 200 that ends the bad spell is no listing.
    let error = world.model(ID).unwrap_err();
    assert!(error.to_string().contains("not JSON"), "{error}");
    world.server.faults(Faults { statuses: [500; 4].into(), ..Faults::default() });
    assert_snapshot(&world.model(ID).unwrap(), &commit("one"));
    world.server.faults(Faults { statuses: [500; 99].into(), ..Faults::default() });
    let error = world.model(ID).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("the server answers 500"), "{error}");
    world.server.faults(Faults { circle: true, ..Faults::default() });
    let error =
        World::model(&World { home: tempfile::tempdir().unwrap(), ..world }, ID).unwrap_err();
    assert!(error.to_string().contains("redirections"), "{error}");
}

#[test]
fn listings_that_would_write_elsewhere_are_refused() {
    let commit = commit("one").hash;
    for listing in [
        format!("{{\"sha\":\"{commit}\",\"siblings\":[{{\"rfilename\":\"../../model.safetensors\"}}]}}"),
        "{\"sha\":\"../../x\",\"siblings\":[{\"rfilename\":\"model.safetensors\"}]}".into(),
        format!(
            "{{\"sha\":\"{commit}\",\"siblings\":[{{\"rfilename\":\"model.safetensors\",\"blobId\":\"../x\"}}]}}"
        ),
        "[1, 2".into(),
    ] {
        let world = World::new();
        world.server.faults(Faults { listing: Some(listing.clone()), ..Faults::default() });
        let error = world.model(ID).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{listing}: {error:?}");
        assert!(!world.cache().exists(), "{listing}");
    }
}

#[test]
fn other_models_are_not_downloaded() {
    let files: &[(&str, &[u8])] =
        &[("config.json", br#"{"model_type":"llama"}"#), (WEIGHTS, b"weights")];
    let world = World::with(vec![
        public("some/llama", Commit::of_files("l", files)),
        public("some/gguf", Commit::of_files("g", &[("a.gguf", b"GGUF")])),
    ]);
    for (id, expected) in [("some/llama", "\"llama\" model"), ("some/gguf", "download a.gguf")] {
        let error = world.model(id).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(!world.server.log().iter().any(|request| request.at_files));
}

#[test]
fn shards_and_pytorch_weights_come_with_their_index() {
    let index = br#"{"weight_map":{}}"#;
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{}"),
        ("pytorch_model-00001-of-00002.bin", b"one"),
        ("pytorch_model-00002-of-00002.bin", b"two"),
        ("pytorch_model.bin.index.json", index),
    ];
    let world = World::with(vec![public(ID, Commit::of_files("t", files))]);
    let folder = world.model(ID).unwrap();
    for (name, content) in files {
        assert_eq!(fs::read(folder.join(name)).unwrap(), *content, "{name}");
    }
}

#[test]
fn an_interrupted_download_stops_and_goes_on_later() {
    let world = World::new();
    let stop = Seen { stop_after: Some(1), ..Seen::default() };
    let result = Hub::new(world.options()).unwrap().model(&RepoId::parse(ID).unwrap(), &stop);
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_snapshot(&world.model(ID).unwrap(), &commit("one"));
}

#[test]
fn processes_that_want_the_same_file_fetch_it_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| world.model(ID).unwrap())).collect();
        for run in runs {
            assert_snapshot(&run.join().unwrap(), &commit("one"));
        }
    });
    let fetched = world.server.log().iter().filter(|request| request.at_files).count();
    assert_eq!(fetched, 1);
}

fn dataset(id: &str, revision: &str, files: &[(&str, &[u8])]) -> Repo {
    let commit = Commit::of_files(revision, files);
    Repo {
        kind: "dataset",
        revisions: vec![(revision.into(), commit.clone())],
        ..public(id, commit)
    }
}

#[test]
fn data_sets_are_found_by_name_in_both_layouts() {
    let glue: &[(&str, &[u8])] = &[
        ("mrpc/train-00000-of-00001.parquet", b"mrpc train"),
        ("mrpc/validation-00000-of-00001.parquet", b"mrpc validation"),
        ("stsb/validation-00000-of-00001.parquet", b"stsb validation"),
    ];
    let main = dataset("RobZamp/sick", "main", &[("sick.py", b"import os")]);
    let mut sick = dataset(
        "RobZamp/sick",
        "refs/convert/parquet",
        &[("default/test/0000.parquet", b"sick test")],
    );
    sick.revisions.extend(main.revisions);
    let world = World::with(vec![dataset("nyu-mll/glue", "main", glue), sick]);
    let fetch = |options: HubOptions, name: &str, split: Option<&str>| {
        let known = NamedDataset::find(name).unwrap();
        let split = known.split(split)?;
        let path = Hub::new(options)?.dataset(known, split, &Silent)?;
        Ok::<_, Error>(fs::read_to_string(path).unwrap())
    };
    let known = [
        ("mrpc", None, "mrpc validation"),
        ("mrpc", Some("train"), "mrpc train"),
        ("stsb", Some("dev"), "stsb validation"),
        ("sick", None, "sick test"),
    ];
    for (name, split, expected) in known {
        assert_eq!(fetch(world.options(), name, split).unwrap(), expected);
    }
    world.server.log();
    for (name, split, expected) in known {
        assert_eq!(fetch(world.offline(), name, split).unwrap(), expected);
    }
    assert!(world.server.log().is_empty());
    let error = fetch(world.offline(), "mrpc", Some("test")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let error = fetch(world.options(), "mrpc", Some("test")).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    let error = fetch(world.options(), "sick", Some("train")).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
}

/// What the progress was told.
#[derive(Default)]
struct Seen {
    total: AtomicU64,
    done: AtomicU64,
    phases: Mutex<Vec<String>>,
    stop_after: Option<u64>,
}

impl Progress for Seen {
    fn begin(&self, phase: &str, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.phases.lock().unwrap().push(phase.into());
    }

    fn advance(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    fn note(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        self.stop_after.is_some_and(|n| self.done.load(Ordering::Relaxed) >= n)
    }
}
