//! Finds ggml's source: in the tree of a crate that is pinned for it and never compiled.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crate whose packaged tree holds ggml's source, as Cargo.toml pins it.
const SOURCE_CRATE: &str = "llama-cpp-sys-2";
const SOURCE_VERSION: &str = "0.1.161";

/// ggml's source: `GGML_SRC_DIR`, or the pinned crate as cargo unpacked it.
pub fn find() -> PathBuf {
    let dir = super::from_env("GGML_SRC_DIR").unwrap_or_else(|| {
        let manifest = source_manifest();
        manifest.parent().expect("a manifest lies in a folder").join("llama.cpp/ggml")
    });
    assert!(dir.join("include/ggml.h").is_file(), "no ggml source at {}", dir.display());
    dir
}

/// The manifest of the pinned crate, asked of cargo.
fn source_manifest() -> PathBuf {
    // As the lock file beside our own manifest says; a build script must not touch that file.
    let ours = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("Cargo.toml");
    let mut found = locate(&ours, &["--locked"]);
    // Cargo may refuse to read our manifest: where this package lies inside another workspace
    // without being one of its members, or where it has no lock file. Then a package of one
    // dependency asks; what is unpacked already will do.
    if found.is_err() {
        let asking = asking_package();
        found = locate(&asking, &["--offline"]).or_else(|_| locate(&asking, &[]));
    }
    found.unwrap_or_else(|why| panic!("cargo cannot find {SOURCE_CRATE} {SOURCE_VERSION}: {why}"))
}

/// Where cargo has the source crate for the package of `manifest`, or why cargo does not say.
fn locate(manifest: &Path, mode: &[&str]) -> Result<PathBuf, String> {
    let out = Command::new(env::var_os("CARGO").unwrap())
        .args(["metadata", "--format-version=1", "--all-features", "--manifest-path"])
        .arg(manifest)
        .args(mode)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cannot run cargo metadata");
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let meta: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo's own JSON");
    let packages = meta["packages"].as_array().expect("cargo metadata lists packages");
    let is_source = |package: &&serde_json::Value| {
        package["name"] == SOURCE_CRATE && package["version"] == SOURCE_VERSION
    };
    let path = packages.iter().find(is_source).and_then(|found| found["manifest_path"].as_str());
    let manifest = manifest.display();
    let path = path.unwrap_or_else(|| {
        panic!("{manifest} does not lead to {SOURCE_CRATE} {SOURCE_VERSION}; which version is it?")
    });
    Ok(path.into())
}

/// Manifest of a package, and workspace, that depends on nothing but the source crate.
fn asking_package() -> PathBuf {
    let dir = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("asking");
    fs::create_dir_all(&dir).expect("OUT_DIR is ours");
    let manifest = format!(
        "[package]\nname = \"asking\"\nedition = \"2021\"\n[workspace]\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{SOURCE_CRATE} = {{ version = \"={SOURCE_VERSION}\", default-features = false }}\n"
    );
    let path = dir.join("Cargo.toml");
    let written = fs::write(dir.join("lib.rs"), "").and_then(|()| fs::write(&path, manifest));
    written.expect("OUT_DIR is ours");
    path
}
