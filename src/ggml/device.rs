//! Devices that can run a model: the CPU, and what the GPU backends of this build find here.

use std::fmt;
use std::ptr::NonNull;
use std::str::FromStr;

use ggml_sys as sys;

use super::arena::Arena;
use super::guard::{guarded, text};
use super::TensorType;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// A device of ggml's registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    ptr: NonNull<sys::ggml_backend_device>,
    backend: String,
    index: usize,
    kind: DeviceKind,
}

// SAFETY: the pointer is to a static of ggml's registry, whose functions may be called from any
// thread; ggml locks what its devices share.
unsafe impl Send for Device {}
// SAFETY: as for Send.
unsafe impl Sync for Device {}

/// What sort of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor, with the memory of the system.
    Cpu,
    /// A GPU with memory of its own.
    Gpu,
    /// A GPU in the processor's memory.
    IntegratedGpu,
    /// Helps the CPU backend; runs no model alone.
    Helper,
}

/// Memory of a device, in bytes, as its driver counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Not in use by anyone.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

impl Device {
    /// Every device there is, in ggml's order.
    pub fn all() -> Result<Vec<Self>> {
        super::cpu::load()?;
        // SAFETY: the calls look through ggml's registry, which holds statics; indices stay below
        // the counts it gives.
        let devices = unsafe {
            let registries =
                (0..sys::ggml_backend_reg_count()).map(|i| sys::ggml_backend_reg_get(i));
            let of = |registry| {
                (0..sys::ggml_backend_reg_dev_count(registry))
                    .filter_map(move |i| Self::new(registry, i))
            };
            registries.flat_map(of).collect()
        };
        Ok(devices)
    }

    /// The processor.
    pub fn cpu() -> Result<Self> {
        let cpu = Self::all()?.into_iter().find(|device| device.kind == DeviceKind::Cpu);
        cpu.ok_or_else(|| Error::self_check("ggml has no CPU backend"))
    }

    /// # Safety
    /// `registry` is one of ggml's and has more than `index` devices.
    unsafe fn new(registry: sys::ggml_backend_reg_t, index: usize) -> Option<Self> {
        // SAFETY: as the contract says; names are static C strings.
        unsafe {
            let ptr = NonNull::new(sys::ggml_backend_reg_dev_get(registry, index))?;
            let kind = match sys::ggml_backend_dev_type(ptr.as_ptr()) {
                sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
                sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
                sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::IntegratedGpu,
                _ => DeviceKind::Helper,
            };
            let backend = match text(sys::ggml_backend_reg_name(registry)).to_lowercase() {
                name if name == "mtl" => "metal".into(),
                name => name,
            };
            Some(Self { ptr, backend, index, kind })
        }
    }

    /// Backend that drives it, in lower case: `cpu`, `cuda`, `vulkan`, `metal`.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// What sort it is.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// True for those that weights can be put on.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, DeviceKind::Gpu | DeviceKind::IntegratedGpu)
    }

    /// What the driver calls it.
    pub fn description(&self) -> String {
        // SAFETY: the device is a static of ggml's registry and the result a C string it owns.
        unsafe { text(sys::ggml_backend_dev_description(self.as_ptr())) }
    }

    /// Its address on the bus, where ggml knows it: `0000:c1:00.0`.
    pub fn bus_id(&self) -> Option<String> {
        // SAFETY: every field of the structure may be zero; the call fills it. The id is null or a
        // C string that the device owns.
        unsafe {
            let mut props = std::mem::zeroed::<sys::ggml_backend_dev_props>();
            sys::ggml_backend_dev_get_props(self.as_ptr(), &mut props);
            (!props.device_id.is_null()).then(|| text(props.device_id))
        }
    }

    /// Free and total memory now.
    pub fn memory(&self) -> Result<DeviceMemory> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the device is a static of ggml's registry; the numbers are written before the
        // call returns.
        guarded(|message| unsafe {
            sys::ggml_sys_dev_memory(message, self.as_ptr(), &mut free, &mut total)
        })
        .map_err(|what| Error::device(self, format!("it does not tell its memory: {what}")))?;
        Ok(DeviceMemory { free, total })
    }

    /// True if it computes the RWKV-6 recurrence for heads of this size. ggml's own answer is not
    /// to be trusted: its Vulkan shader is made for 64 and computes something else for any other
    /// size, its CUDA kernel ends the process for any but 64 and 128.
    pub fn runs_recurrence(&self, head_size: usize) -> bool {
        match self.backend() {
            "cpu" => true,
            "cuda" => matches!(head_size, 64 | 128),
            _ => head_size == 64,
        }
    }

    /// True if it multiplies a matrix of this type and shape with activations.
    pub fn multiplies(&self, ty: TensorType, shape: Shape) -> bool {
        let [n_in, _, n_planes, _] = shape.ne();
        let x = Shape::new(&[n_in, 8, n_planes]).expect("no larger than the matrix");
        // SAFETY: the columns of both are the same and so are the planes.
        self.supports(ty, shape, TensorType::F32.id(), x, |ctx, w, x| unsafe {
            sys::ggml_mul_mat(ctx, w, x)
        })
    }

    /// True if it picks rows from a table of this type.
    pub fn picks_rows(&self, ty: TensorType, shape: Shape) -> bool {
        let ids = Shape::new(&[8]).expect("one dimension");
        // SAFETY: a table of two dimensions and a vector of i32.
        self.supports(ty, shape, sys::GGML_TYPE_I32, ids, |ctx, table, ids| unsafe {
            sys::ggml_get_rows(ctx, table, ids)
        })
    }

    fn supports(
        &self,
        ty: TensorType,
        shape: Shape,
        other_type: sys::ggml_type,
        other: Shape,
        op: impl FnOnce(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
    ) -> bool {
        let arena = Arena::new(3, 0);
        let a = arena.tensor(ty, shape).as_ptr();
        let b = arena.any(other_type, other).as_ptr();
        arena.reserve(1);
        let op = op(arena.as_ptr(), a, b);
        // SAFETY: the device is a static of ggml's registry and the operation a description in the
        // live arena.
        unsafe { sys::ggml_backend_dev_supports_op(self.as_ptr(), op) }
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_backend_device {
        self.ptr.as_ptr()
    }

    /// How memory of the device is allocated: a static of ggml.
    pub(super) fn buffer_type(&self) -> *mut sys::ggml_backend_buffer_type {
        // SAFETY: the device is one of ggml's registry.
        unsafe { sys::ggml_backend_dev_buffer_type(self.as_ptr()) }
    }
}

/// As `--device` takes it and a report names it: `cpu`, `cuda:0`, `vulkan:1`, `metal:0`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DeviceKind::Cpu => f.write_str(&self.backend),
            _ => write!(f, "{}:{}", self.backend, self.index),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}

/// Which device a user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU, or the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU of this backend, counted from 0.
    Gpu {
        /// `cuda`, `vulkan` or `metal`.
        backend: String,
        /// Which of them.
        index: usize,
    },
}

/// GPU backends that ggml has and this crate knows the features of.
const GPU_BACKENDS: [(&str, bool); 3] = [
    ("cuda", cfg!(feature = "cuda")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("metal", cfg!(feature = "metal")),
];

impl DeviceChoice {
    /// The device, or `None` for the CPU. Fails with what there is if it is not there.
    pub fn find(&self) -> Result<Option<Device>> {
        let (backend, index) = match self {
            Self::Cpu => return Ok(None),
            Self::Auto => {
                let gpus: Vec<_> = Device::all()?.into_iter().filter(Device::is_gpu).collect();
                let own = gpus.iter().position(|gpu| gpu.kind == DeviceKind::Gpu);
                return Ok(gpus.into_iter().nth(own.unwrap_or(0)));
            }
            Self::Gpu { backend, index } => (backend, *index),
        };
        let gpus: Vec<_> = Device::all()?.into_iter().filter(Device::is_gpu).collect();
        let is_it = |gpu: &&Device| gpu.backend() == backend && gpu.index == index;
        if let Some(device) = gpus.iter().find(is_it) {
            return Ok(Some(device.clone()));
        }
        let built = GPU_BACKENDS.iter().any(|(name, built)| name == backend && *built);
        let known: Vec<_> = gpus.iter().map(Device::to_string).collect();
        let what = match (built || cfg!(feature = "dynamic-backends"), known.is_empty()) {
            (false, _) => format!(
                "device {self}: this program was built without {backend}; build it with \
                 --features {backend}, or take --device cpu"
            ),
            (true, true) => format!(
                "device {self}: no {backend} device was found; is its driver installed? \
                 --device cpu needs none"
            ),
            (true, false) => format!("device {self}: there are {} and cpu", known.join(", ")),
        };
        Err(Error::argument(what))
    }

    /// Where `Auto` found no GPU although this program could use one: what to tell the user.
    pub fn without_gpu(&self) -> Option<String> {
        let built: Vec<_> =
            GPU_BACKENDS.iter().filter(|(_, built)| *built).map(|(name, _)| *name).collect();
        (*self == Self::Auto && !built.is_empty())
            .then(|| format!("no GPU found by {}; running on the CPU", built.join(" or ")))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { backend, index } => write!(f, "{backend}:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let what =
                "give auto, cpu, cuda, vulkan or metal, with :N for the device of that number";
            Error::argument(format!("device {text:?}: {what}"))
        };
        let (backend, index) = match text.split_once(':') {
            None => (text, 0),
            Some((backend, index)) => (backend, index.parse().map_err(|_| unknown())?),
        };
        match backend {
            "auto" | "cpu" if text != backend => Err(unknown()),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ if GPU_BACKENDS.iter().any(|(name, _)| *name == backend) => {
                Ok(Self::Gpu { backend: backend.to_owned(), index })
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_shown() {
        for (text, shown) in [
            ("auto", "auto"),
            ("cpu", "cpu"),
            ("cuda", "cuda:0"),
            ("cuda:3", "cuda:3"),
            ("vulkan:1", "vulkan:1"),
            ("metal", "metal:0"),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), shown);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "cuda:1:2"] {
            let message = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("device {text:?}: give auto")), "{message}");
        }
    }

    #[test]
    fn the_cpu_is_there_and_runs_everything() {
        let devices = Device::all().unwrap();
        let cpu = devices.iter().find(|device| device.kind() == DeviceKind::Cpu).unwrap();
        assert_eq!(cpu.to_string(), "cpu");
        assert!(cpu.memory().unwrap().total > 1 << 20);
        assert!(cpu.runs_recurrence(8));
        let shape = Shape::new(&[256, 4]).unwrap();
        for ty in [TensorType::F16, TensorType::Q4_K] {
            assert!(cpu.multiplies(ty, shape) && cpu.picks_rows(ty, shape));
        }
        assert_eq!("cpu".parse::<DeviceChoice>().unwrap().find().unwrap(), None);
    }

    #[test]
    fn a_backend_that_is_not_built_in_says_how_to_get_it() {
        for (backend, built) in GPU_BACKENDS {
            if built {
                continue;
            }
            let choice: DeviceChoice = backend.parse().unwrap();
            let message = choice.find().unwrap_err().to_string();
            assert!(message.starts_with(&format!("device {backend}:0: ")), "{message}");
            assert!(message.contains("--device cpu"), "{message}");
        }
    }
}
