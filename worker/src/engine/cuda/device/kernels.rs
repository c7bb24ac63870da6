//! Our kernels: compiled by NVRTC once per kind of GPU and remembered on disk.

use super::{Error, cache, driver, failed};
use crate::engine::cuda::launch::{Arguments, KERNELS, Launch};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{Ptx, result, sys};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

// SAFETY: plain numbers in C's layout, as the kernels declare them.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Arguments {}

/// The module of all kernels, and those that programs have asked for.
pub(super) struct Kernels {
    module: Arc<CudaModule>,
    functions: HashMap<&'static str, CudaFunction>,
}

impl Kernels {
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self, Error> {
        let (major, minor) = context.compute_capability().map_err(driver)?;
        // Hopper's own matrix instructions are there only for code that is for it alone.
        let own = if (major, minor) == (9, 0) { "a" } else { "" };
        let cubin = remembered(&format!("sm_{major}{minor}{own}"))?;
        let module = context.load_module(Ptx::from_binary(cubin)).map_err(driver)?;
        Ok(Self { module, functions: HashMap::new() })
    }

    /// Looks a kernel up: must be done before it is launched.
    pub(super) fn prepare(&mut self, name: &'static str) -> Result<(), Error> {
        if !self.functions.contains_key(name) {
            self.functions.insert(name, self.module.load_function(name).map_err(driver)?);
        }
        Ok(())
    }

    /// Launches a kernel with its pointers resolved.
    pub(super) fn launch(&self, stream: &Arc<CudaStream>, launch: &Launch, places: &[u64]) -> Result<(), Error> {
        let unknown = || Error::Device(format!("kernel {} was not prepared", launch.kernel));
        let function = self.functions.get(launch.kernel).ok_or_else(unknown)?;
        let mut arguments = launch.arguments(|_| 0);
        arguments.pointers.iter_mut().zip(places).for_each(|(to, place)| *to = *place);
        let [x, y, z] = launch.grid;
        let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (launch.block, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the kernel takes one Arguments; its pointers are those that the lowering of a checked plan gave it.
        #[allow(unsafe_code)]
        let launched = unsafe { stream.launch_builder(function).arg(&arguments).launch(config) };
        launched.map(|_| ()).map_err(driver)
    }
}

/// The compiled kernels from disk, or compiled now.
fn remembered(architecture: &str) -> Result<Vec<u8>, Error> {
    let source = Sha256::digest(format!("{architecture} {} {KERNELS}", version()));
    let name: String = source.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("kernels-{architecture}-{name}.cubin");
    if let Some(cubin) = cache::read(&name) {
        return Ok(cubin);
    }
    let cubin = compile(architecture)?;
    cache::write(&name, &cubin);
    Ok(cubin)
}

fn version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: it writes two numbers.
    #[allow(unsafe_code)]
    let known = unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result();
    known.map_or_else(|_| "unknown".to_owned(), |()| format!("{major}.{minor}"))
}

/// Compiles all kernels for an architecture such as `sm_90`. Needs NVRTC, but no GPU.
pub(super) fn compile(architecture: &str) -> Result<Vec<u8>, Error> {
    let wrong = |error| failed("NVRTC", &error);
    let source = CString::new(KERNELS).map_err(|error| failed("the kernels' source", &error))?;
    let program = result::create_program(&source, Some(c"kernels.cu")).map_err(wrong)?;
    let options = [format!("--gpu-architecture={architecture}")];
    // SAFETY: the program is valid until it is destroyed below, and the buffer has the size that NVRTC names.
    #[allow(unsafe_code)]
    unsafe {
        let compiled = result::compile_program(program, &options).map_err(wrong).and_then(|()| {
            let mut size = 0;
            sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(wrong)?;
            let mut cubin = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(wrong)?;
            Ok(cubin)
        });
        let log = || {
            let log = result::get_program_log(program).unwrap_or_default();
            String::from_utf8_lossy(&log.into_iter().map(|c| c as u8).collect::<Vec<_>>()).into_owned()
        };
        let compiled = compiled.map_err(|error| Error::Device(format!("{error}: {}", log())));
        result::destroy_program(program).map_err(wrong)?;
        compiled
    }
}
