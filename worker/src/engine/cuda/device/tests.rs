//! What can be tested of the GPU without one.

use super::kernels::compile;

#[test]
fn the_kernels_compile_for_every_generation_of_gpu_that_has_bfloat16() {
    // SAFETY: it only tries to load the library.
    #[allow(unsafe_code)]
    let there = unsafe { cudarc::nvrtc::sys::is_culib_present() };
    if !there {
        eprintln!("skipped: NVRTC is not on this machine");
        return;
    }
    for architecture in ["sm_80", "sm_89", "sm_90a", "sm_120"] {
        match compile(architecture) {
            Ok(cubin) => assert!(cubin.starts_with(b"\x7fELF"), "{architecture}"),
            // An older NVRTC doesn't know the newest.
            Err(error) => assert!(error.to_string().contains("gpu-architecture"), "{architecture}: {error}"),
        }
    }
}
