//! Builds ggml with cmake from the source that the pinned crate in Cargo.lock carries, and
//! generates the bindings.
//!
//! Overrides: `GGML_SRC_DIR` (a source tree of ggml), `GGML_SYS_PREFIX` (an installed build).
//! Every `GGML_*` and `CMAKE_*` variable of the environment is passed on to cmake.

mod source;

use std::env;
use std::path::{Path, PathBuf};

/// Variables that belong to this script or to the cmake crate, not to ggml's build.
const NOT_FOR_CMAKE: [&str; 3] = ["GGML_SRC_DIR", "GGML_SYS_PREFIX", "CMAKE"];

fn main() {
    for file in ["build", "guard", "wrapper.h", "CMakeLists.txt", "vk-old-headers.hpp"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let backends = Backends::from_features();
    let built = match from_env("GGML_SYS_PREFIX") {
        Some(prefix) => installed(&prefix, &backends.library("ggml")),
        None => build(&backends),
    };
    bindings(&built.include, &backends);
    guard(&built.include);
    link(&built.lib, &backends);
    println!("cargo:include={}", built.include.display());
}

struct Backends {
    cuda: bool,
    vulkan: bool,
    metal: bool,
    /// Backends are modules that the program loads when it starts.
    dynamic: bool,
}

impl Backends {
    fn from_features() -> Self {
        Self {
            cuda: feature("CUDA"),
            vulkan: feature("VULKAN"),
            metal: feature("METAL"),
            dynamic: feature("DYNAMIC_BACKENDS"),
        }
    }

    /// File name of a library that the program is linked with.
    fn library(&self, name: &str) -> String {
        let extension = match (self.dynamic, target_os().as_str()) {
            (false, _) => "a",
            (true, "macos") => "dylib",
            (true, _) => "so",
        };
        format!("lib{name}.{extension}")
    }
}

/// Where a build of ggml lies.
struct Built {
    include: PathBuf,
    lib: PathBuf,
}

fn feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

fn target_os() -> String {
    env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it for build scripts")
}

/// libgomp comes with the compiler on Linux; elsewhere ggml brings threads of its own.
fn openmp() -> bool {
    feature("OPENMP") && target_os() == "linux"
}

/// The flags of the machine that compiles say nothing about another target's processors.
fn native() -> bool {
    feature("NATIVE") && env::var_os("HOST") == env::var_os("TARGET")
}

fn from_env(name: &str) -> Option<PathBuf> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var_os(name).map(PathBuf::from)
}

/// A build that is there already, known by its `library`.
fn installed(prefix: &Path, library: &str) -> Built {
    let lib = ["lib", "lib64"].map(|dir| prefix.join(dir));
    let lib = lib.into_iter().find(|dir| dir.join(library).is_file());
    let lib =
        lib.unwrap_or_else(|| panic!("no lib/{library} in GGML_SYS_PREFIX={}", prefix.display()));
    Built { include: prefix.join("include"), lib }
}

fn build(backends: &Backends) -> Built {
    let source = source::find();
    let on = |yes: bool| if yes { "ON" } else { "OFF" };
    let mut config = cmake::Config::new(".");
    // Release whatever cargo's profile is: an unoptimised ggml is of no use. No global -march:
    // ggml-base must stay at the baseline instruction set, so that its quantizers give the same
    // bytes everywhere; only ggml-cpu gets the native flags.
    config
        .profile("Release")
        .define("GGML_SRC_DIR", &source)
        .define("BUILD_SHARED_LIBS", on(backends.dynamic))
        .define("GGML_BACKEND_DL", on(backends.dynamic))
        .define("GGML_CPU_ALL_VARIANTS", on(backends.dynamic))
        .define("GGML_NATIVE", on(native() && !backends.dynamic))
        .define("GGML_OPENMP", on(openmp()))
        .define("GGML_CCACHE", "OFF")
        .define("GGML_BLAS", "OFF")
        .define("GGML_CUDA", on(backends.cuda))
        .define("GGML_CUDA_NCCL", "OFF")
        .define("GGML_VULKAN", on(backends.vulkan))
        .define("GGML_METAL", on(backends.metal))
        .define("CMAKE_INSTALL_LIBDIR", "lib")
        // Where ggml puts modules: beside the libraries that load them.
        .define("CMAKE_INSTALL_BINDIR", "lib");
    for (name, value) in env::vars() {
        let ours = name.starts_with("GGML_") || name.starts_with("CMAKE_");
        if ours && !NOT_FOR_CMAKE.contains(&name.as_str()) {
            println!("cargo:rerun-if-env-changed={name}");
            config.define(&name, &value);
        }
    }
    if env::var_os("CMAKE_BUILD_PARALLEL_LEVEL").is_none() {
        let jobs = env::var("NUM_JOBS").unwrap_or_else(|_| "2".into());
        // Build scripts run in a process of their own and this one has a single thread.
        env::set_var("CMAKE_BUILD_PARALLEL_LEVEL", jobs);
    }
    let prefix = config.build();
    Built { include: source.join("include"), lib: prefix.join("lib") }
}

fn bindings(include: &Path, backends: &Backends) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_item("(ggml|gguf|GGML|GGUF)_.*")
        .allowlist_recursively(true)
        .blocklist_type("FILE|_IO_.*")
        .raw_line("pub type FILE = ::std::os::raw::c_void;")
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true);
    let defines = [
        (backends.cuda, "-DGGML_SYS_CUDA"),
        (backends.vulkan, "-DGGML_SYS_VULKAN"),
        (backends.metal, "-DGGML_SYS_METAL"),
    ];
    for (_, define) in defines.iter().filter(|(enabled, _)| *enabled) {
        builder = builder.clang_arg(*define);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("bindings.rs");
    let bindings = builder.generate().expect("bindgen failed; is libclang installed?");
    bindings.write_to_file(out).expect("cannot write the bindings");
}

/// The calls that turn what a GPU backend throws into a value (guard/guard.h).
fn guard(include: &Path) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").file("guard/guard.cpp").include(include);
    // Linked before ggml, which it calls.
    build.compile("ggml-sys-guard");
}

/// Link order: registry, backends, base; then what they need of the system.
fn link(lib: &Path, backends: &Backends) {
    println!("cargo:rustc-link-search=native={}", lib.display());
    let linked_in = !backends.dynamic;
    let enabled = [
        ("ggml", true),
        ("ggml-cuda", backends.cuda && linked_in),
        ("ggml-vulkan", backends.vulkan && linked_in),
        ("ggml-metal", backends.metal && linked_in),
        ("ggml-cpu", linked_in),
        ("ggml-base", true),
    ];
    let kind = if backends.dynamic { "dylib" } else { "static" };
    for (name, _) in enabled.iter().filter(|(_, yes)| *yes) {
        let file = backends.library(name);
        assert!(lib.join(&file).is_file(), "no {file} in {}", lib.display());
        println!("cargo:rustc-link-lib={kind}={name}");
    }
    if linked_in {
        link_system(backends);
    }
}

/// What static libraries need and shared ones name themselves.
fn link_system(backends: &Backends) {
    if target_os() == "macos" {
        println!("cargo:rustc-link-lib=c++");
        for framework in ["Foundation", "Accelerate"] {
            println!("cargo:rustc-link-lib=framework={framework}");
        }
        for framework in ["Metal", "MetalKit"].iter().filter(|_| backends.metal) {
            println!("cargo:rustc-link-lib=framework={framework}");
        }
        return;
    }
    for name in ["stdc++", "m"] {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
    if openmp() {
        println!("cargo:rustc-link-lib=dylib=gomp");
    }
    if backends.vulkan {
        println!("cargo:rustc-link-lib=vulkan");
    }
    if backends.cuda {
        for root in ["CUDAToolkit_ROOT", "CUDA_PATH"].iter().filter_map(|name| from_env(name)) {
            for dir in ["lib64", "lib"] {
                println!("cargo:rustc-link-search=native={}", root.join(dir).display());
            }
        }
        for name in ["cudart", "cublas"] {
            println!("cargo:rustc-link-lib={name}");
        }
        // ggml's virtual memory pool calls the driver library directly.
        if env::var("GGML_CUDA_NO_VMM").as_deref() != Ok("ON") {
            println!("cargo:rustc-link-lib=cuda");
        }
    }
}
