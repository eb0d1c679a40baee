//! ggml's CPU backend: linked in, or, with the feature `dynamic-backends`, the best for this
//! processor of the modules that lie beside ggml's library.
//!
//! A module cannot be linked with, so what only the backend's library has is asked of it by name;
//! so it is where the backend is linked in, that there be one way.

use std::ffi::{c_int, c_void, CStr};
use std::mem::transmute;
use std::ptr::NonNull;
use std::sync::OnceLock;

use ggml_sys as sys;

use super::cores::Places;
use crate::error::{Error, Result};

/// A CPU backend with threads of its own.
#[derive(Debug)]
pub(super) struct CpuBackend {
    backend: NonNull<sys::ggml_backend>,
    threads: NonNull<sys::ggml_threadpool>,
    library: &'static Library,
}

impl CpuBackend {
    /// `n_threads` is at least one and at most what ggml allows. With `places` each thread keeps to
    /// one of them, but for the caller's, which is left as it was.
    pub fn new(n_threads: usize, places: Option<&Places>) -> Result<Self> {
        super::silence_log();
        let library = library()?;
        let failed = || Error::self_check("ggml cannot start its CPU backend");
        let n_threads = c_int::try_from(n_threads).map_err(|_| failed())?;
        // ggml moves the thread that makes the pool to its place.
        let _let_go_after = places.and_then(Places::let_caller_go);
        // SAFETY: the device is a static of the library; each result is checked before the next
        // call uses it, and owned by the value returned, whose drop frees both.
        unsafe {
            let mut params = sys::ggml_threadpool_params_default(n_threads);
            if let Some(places) = places {
                places.give_to(&mut params);
            }
            let threads = NonNull::new((library.new_threads)(&mut params)).ok_or_else(failed)?;
            let backend = sys::ggml_backend_dev_init(library.device.as_ptr(), std::ptr::null());
            let Some(backend) = NonNull::new(backend) else {
                (library.free_threads)(threads.as_ptr());
                return Err(failed());
            };
            (library.set_n_threads)(backend.as_ptr(), n_threads);
            (library.set_threads)(backend.as_ptr(), threads.as_ptr());
            Ok(Self { backend, threads, library })
        }
    }

    pub fn as_ptr(&self) -> *mut sys::ggml_backend {
        self.backend.as_ptr()
    }
}

impl Drop for CpuBackend {
    fn drop(&mut self) {
        // SAFETY: both are owned here alone and freed once, the backend before its threads.
        unsafe {
            sys::ggml_backend_free(self.backend.as_ptr());
            (self.library.free_threads)(self.threads.as_ptr());
        }
    }
}

/// What the CPU backend was compiled with, by ggml's names: `AVX2`, `OPENMP`.
pub(super) fn features() -> Result<Vec<String>> {
    super::silence_log();
    let library = library()?;
    let mut names = Vec::new();
    // SAFETY: the function returns a static list of pairs of C strings, which ends where the name
    // is null.
    unsafe {
        let mut feature = (library.features)(library.registry.as_ptr());
        while !(*feature).name.is_null() {
            names.push(CStr::from_ptr((*feature).name).to_string_lossy().into_owned());
            feature = feature.add(1);
        }
    }
    Ok(names)
}

type NewThreads =
    unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
type FreeThreads = unsafe extern "C" fn(*mut sys::ggml_threadpool);
type SetThreads = unsafe extern "C" fn(*mut sys::ggml_backend, *mut sys::ggml_threadpool);
type SetNThreads = unsafe extern "C" fn(*mut sys::ggml_backend, c_int);
type Features = unsafe extern "C" fn(*mut sys::ggml_backend_reg) -> *mut sys::ggml_backend_feature;

/// The library that holds the backend; it stays loaded as long as the process lives.
#[derive(Debug)]
struct Library {
    registry: NonNull<sys::ggml_backend_reg>,
    device: NonNull<sys::ggml_backend_device>,
    new_threads: NewThreads,
    free_threads: FreeThreads,
    set_threads: SetThreads,
    set_n_threads: SetNThreads,
    features: Features,
}

// SAFETY: the pointers are to statics of ggml that nobody writes once they are registered, and the
// functions may be called from any thread.
unsafe impl Send for Library {}
// SAFETY: as for Send.
unsafe impl Sync for Library {}

/// Makes sure that every module is loaded.
pub(super) fn load() -> Result<()> {
    super::silence_log();
    library().map(|_| ())
}

fn library() -> Result<&'static Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    let found = LIBRARY.get_or_init(|| {
        #[cfg(feature = "dynamic-backends")]
        modules::load();
        find()
    });
    found.as_ref().ok_or_else(|| {
        let place = if cfg!(feature = "dynamic-backends") { " beside its library" } else { "" };
        Error::self_check(format!("ggml has no CPU backend for this processor{place}"))
    })
}

fn find() -> Option<Library> {
    // SAFETY: the call looks through ggml's registry, which holds statics.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    let device = NonNull::new(device)?;
    // SAFETY: the device is one of the registry's.
    let registry = NonNull::new(unsafe { sys::ggml_backend_dev_backend_reg(device.as_ptr()) })?;
    let function = |name: &CStr| {
        // SAFETY: the registry is alive and the name is a C string.
        let address =
            unsafe { sys::ggml_backend_reg_get_proc_address(registry.as_ptr(), name.as_ptr()) };
        NonNull::new(address).map(NonNull::as_ptr)
    };
    // SAFETY: under each of these names the CPU backend gives out the function that ggml-cpu.h
    // declares so, or that ggml-backend.h gives this type; the version of ggml is pinned.
    unsafe {
        Some(Library {
            registry,
            device,
            new_threads: transmute::<*mut c_void, NewThreads>(function(c"ggml_threadpool_new")?),
            free_threads: transmute::<*mut c_void, FreeThreads>(function(c"ggml_threadpool_free")?),
            set_threads: transmute::<*mut c_void, SetThreads>(function(
                c"ggml_backend_cpu_set_threadpool",
            )?),
            set_n_threads: transmute::<*mut c_void, SetNThreads>(function(
                c"ggml_backend_set_n_threads",
            )?),
            features: transmute::<*mut c_void, Features>(function(c"ggml_backend_get_features")?),
        })
    }
}

#[cfg(feature = "dynamic-backends")]
mod modules {
    use std::ffi::{c_void, CStr, CString, OsStr};
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use ggml_sys as sys;

    /// Lets ggml load the best module of each kind from the folder its own library lies in. Without
    /// a folder it would also look in the one the user happens to be in.
    pub fn load() {
        let Some(folder) = folder() else { return };
        // SAFETY: the call takes a C string and loads modules, which register themselves.
        unsafe { sys::ggml_backend_load_all_from_path(folder.as_ptr()) };
    }

    fn folder() -> Option<CString> {
        let function: unsafe extern "C" fn(_) = sys::ggml_backend_load_all_from_path;
        let mut info = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: the address is one of code and the structure takes what dladdr writes.
        let known = unsafe { libc::dladdr(function as *const c_void, info.as_mut_ptr()) } != 0;
        if !known {
            return None;
        }
        // SAFETY: dladdr has filled the structure; the name is a C string of the loader's, which
        // lives as long as the library is loaded.
        let file = unsafe {
            let name = info.assume_init().dli_fname;
            (!name.is_null()).then(|| CStr::from_ptr(name))?
        };
        let file = Path::new(OsStr::from_bytes(file.to_bytes()));
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        CString::new(folder.as_os_str().as_bytes()).ok()
    }
}
