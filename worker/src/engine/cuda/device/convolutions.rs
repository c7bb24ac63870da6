//! Convolutions and the gradients of their inputs by cuDNN, channels last, bfloat16 in and out, sums in f32. The algorithm is
//! the first deterministic one of its heuristics, the same in every run.

use super::memory::Memory;
use super::{Error, failed, reason};
use crate::engine::cuda::launch::Conv;
use crate::engine::cuda::plan::Geometry;
use crate::engine::cuda::tape::Shape;
use cudarc::cudnn::{CudnnError, result, sys};
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes of workspace that an algorithm may want.
pub(super) const MOST: usize = 256 << 20;

const FORMAT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
const NARROW: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16;

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Backward(sys::cudnnConvolutionBwdDataAlgo_t),
}

/// Descriptors of one convolution.
struct Planned {
    input: sys::cudnnTensorDescriptor_t,
    output: sys::cudnnTensorDescriptor_t,
    filter: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: Algorithm,
    workspace: usize,
    tried: bool,
}

/// The library, and what it has planned.
pub(super) struct Convolutions {
    handle: sys::cudnnHandle_t,
    /// `None` for those that the library does not do.
    planned: HashMap<(Geometry, bool), Option<Planned>>,
}

// SAFETY: the handle and the descriptors are used by the one thread that has the device.
#[allow(unsafe_code)]
unsafe impl Send for Convolutions {}

fn wrong(error: CudnnError) -> Error {
    failed(&format!("cuDNN, {}", reason()), &error)
}

/// The library's version.
pub(super) fn version() -> usize {
    // SAFETY: it takes nothing and returns a number.
    #[allow(unsafe_code)]
    unsafe {
        sys::cudnnGetVersion()
    }
}

impl Convolutions {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, Error> {
        let handle = result::create_handle().map_err(wrong)?;
        let library = Self { handle, planned: HashMap::new() };
        // SAFETY: both are valid, and the device holds the stream longer than this.
        #[allow(unsafe_code)]
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }.map_err(wrong)?;
        Ok(library)
    }

    /// Chooses an algorithm; returns the bytes of workspace that it needs, 0 where our own kernel must do it.
    pub(super) fn prepare(&mut self, conv: &Conv) -> usize {
        let key = (conv.geometry, conv.backward);
        if !self.planned.contains_key(&key) {
            let planned = self.describe(&conv.geometry, conv.backward);
            if let Err(error) = &planned {
                tracing::warn!("a convolution is computed by our own kernel, which is slow: {error}");
            }
            self.planned.insert(key, planned.ok());
        }
        self.planned.get(&key).and_then(Option::as_ref).map_or(0, |planned| planned.workspace)
    }

    /// Runs for the first time what was planned; what fails is left to our own kernel.
    pub(super) fn attempt(&mut self, conv: &Conv, places: [u64; 3], workspace: &Memory) {
        let key = (conv.geometry, conv.backward);
        if self.planned.get(&key).and_then(Option::as_ref).is_none_or(|planned| planned.tried) {
            return;
        }
        let done = self.run(conv, places, workspace);
        if let Err(error) = &done {
            tracing::warn!("{:?} is computed by our own kernel, which is slow: {error}", conv.geometry);
        }
        let Some(slot) = self.planned.get_mut(&key) else { return };
        match slot {
            Some(planned) if done.is_ok() => planned.tried = true,
            refused => *refused = None,
        }
    }

    /// Convolutions that were asked for and that the library does not do; the second says whether of the gradient.
    #[cfg(test)]
    pub(super) fn refused(&self) -> Vec<(Geometry, bool)> {
        self.planned.iter().filter(|(_, planned)| planned.is_none()).map(|(key, _)| *key).collect()
    }

    /// Runs it over x (or the gradient of the result), the filter and the result (or the gradient of x); `false` where our
    /// own kernel must do it.
    pub(super) fn run(&self, conv: &Conv, [x, filter, out]: [u64; 3], workspace: &Memory) -> Result<bool, Error> {
        let Some(Some(planned)) = self.planned.get(&(conv.geometry, conv.backward)) else { return Ok(false) };
        let (one, zero) = (1.0f32, 0.0f32);
        let number = |number: &f32| std::ptr::from_ref(number).cast::<c_void>();
        let pointer = |address: u64| address as *mut c_void;
        let Planned { input, output, filter: of_filter, convolution, algorithm, workspace: bytes, .. } = planned;
        let room = pointer(workspace.at(0)?);
        // SAFETY: descriptors are valid, each address is that of a tensor of the described sizes, and the workspace has grown
        // to what the algorithm asked for.
        #[allow(unsafe_code)]
        let done = unsafe {
            match algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    self.handle,
                    number(&one),
                    *input,
                    pointer(x),
                    *of_filter,
                    pointer(filter),
                    *convolution,
                    *algorithm,
                    room,
                    *bytes,
                    number(&zero),
                    *output,
                    pointer(out),
                ),
                Algorithm::Backward(algorithm) => result::convolution_backward_data(
                    self.handle,
                    number(&one),
                    *of_filter,
                    pointer(filter),
                    *output,
                    pointer(x),
                    *convolution,
                    *algorithm,
                    room,
                    *bytes,
                    number(&zero),
                    *input,
                    pointer(out),
                ),
            }
        };
        done.map(|()| true).map_err(wrong)
    }

    fn describe(&self, geometry: &Geometry, backward: bool) -> Result<Planned, Error> {
        let Geometry { input, output, conv } = geometry;
        let (inputs, outputs, kernel) = (size(conv.inputs)?, size(conv.outputs)?, size(conv.kernel)?);
        let (stride, padding) = (size(conv.stride)?, size(conv.padding)?);
        let (image, result_of, filter, convolution) = (
            tensor(*input)?,
            tensor(*output)?,
            result::create_filter_descriptor().map_err(wrong)?,
            result::create_convolution_descriptor().map_err(wrong)?,
        );
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let single = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let math = sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH;
        let shape = [outputs, inputs, kernel, kernel];
        // SAFETY: the descriptors have just been created.
        #[allow(unsafe_code)]
        unsafe {
            result::set_filter4d_descriptor(filter, NARROW, FORMAT, shape).map_err(wrong)?;
            result::set_convolution2d_descriptor(convolution, padding, padding, stride, stride, 1, 1, mode, single)
                .map_err(wrong)?;
            result::set_convolution_math_type(convolution, math).map_err(wrong)?;
        }
        let forward =
            Algorithm::Forward(sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM);
        let mut planned = Planned {
            input: image,
            output: result_of,
            filter,
            convolution,
            algorithm: forward,
            workspace: 0,
            tried: false,
        };
        let chosen = if backward { self.choose_backward(&planned)? } else { self.choose_forward(&planned)? };
        let none = || Error::Device(format!("cuDNN has no deterministic algorithm for {geometry:?}"));
        (planned.algorithm, planned.workspace) = chosen.ok_or_else(none)?;
        Ok(planned)
    }

    fn choose_forward(&self, planned: &Planned) -> Result<Option<(Algorithm, usize)>, Error> {
        let mut count = 0;
        let Planned { input, output, filter, convolution, .. } = *planned;
        // SAFETY: descriptors are valid; a result is plain data, and `count` says how many have been written.
        #[allow(unsafe_code)]
        let found = unsafe {
            let mut found: [sys::cudnnConvolutionFwdAlgoPerf_t; 8] = std::mem::zeroed();
            let results = found.as_mut_ptr();
            result::get_convolution_forward_algorithm(
                self.handle,
                input,
                filter,
                convolution,
                output,
                8,
                &mut count,
                results,
            )
            .map_err(wrong)?;
            found
        };
        for one in found.iter().take(count.max(0) as usize) {
            if one.status.result().is_err() || !is_steady(one.determinism) {
                continue;
            }
            // An algorithm's figures are for its own kind of arithmetic.
            // SAFETY: descriptors are valid.
            #[allow(unsafe_code)]
            let bytes = unsafe {
                result::set_convolution_math_type(convolution, one.mathType).and_then(|()| {
                    let algorithm = one.algo;
                    result::get_convolution_forward_workspace_size(
                        self.handle,
                        input,
                        filter,
                        convolution,
                        output,
                        algorithm,
                    )
                })
            };
            match bytes {
                Ok(bytes) if bytes <= MOST => return Ok(Some((Algorithm::Forward(one.algo), bytes))),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    fn choose_backward(&self, planned: &Planned) -> Result<Option<(Algorithm, usize)>, Error> {
        let mut count = 0;
        let Planned { input, output, filter, convolution, .. } = *planned;
        // SAFETY: as for the forward pass.
        #[allow(unsafe_code)]
        let found = unsafe {
            let mut found: [sys::cudnnConvolutionBwdDataAlgoPerf_t; 6] = std::mem::zeroed();
            let results = found.as_mut_ptr();
            result::get_convolution_backward_data_algorithm(
                self.handle,
                filter,
                output,
                convolution,
                input,
                6,
                &mut count,
                results,
            )
            .map_err(wrong)?;
            found
        };
        for one in found.iter().take(count.max(0) as usize) {
            if one.status.result().is_err() || !is_steady(one.determinism) {
                continue;
            }
            // SAFETY: as for the forward pass.
            #[allow(unsafe_code)]
            let bytes = unsafe {
                result::set_convolution_math_type(convolution, one.mathType).and_then(|()| {
                    let algorithm = one.algo;
                    result::get_convolution_backward_data_workspace_size(
                        self.handle,
                        filter,
                        output,
                        convolution,
                        input,
                        algorithm,
                    )
                })
            };
            match bytes {
                Ok(bytes) if bytes <= MOST => return Ok(Some((Algorithm::Backward(one.algo), bytes))),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }
}

impl Drop for Convolutions {
    fn drop(&mut self) {
        // SAFETY: each was created by this library and is destroyed once.
        #[allow(unsafe_code)]
        unsafe {
            for planned in self.planned.values().flatten() {
                let _ = result::destroy_tensor_descriptor(planned.input);
                let _ = result::destroy_tensor_descriptor(planned.output);
                let _ = result::destroy_filter_descriptor(planned.filter);
                let _ = result::destroy_convolution_descriptor(planned.convolution);
            }
            let _ = result::destroy_handle(self.handle);
        }
    }
}

fn is_steady(determinism: sys::cudnnDeterminism_t) -> bool {
    determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
}

fn size(n: usize) -> Result<i32, Error> {
    i32::try_from(n).map_err(|_| Error::NotRecorded("an image of more than 2^31 pixels"))
}

fn tensor(shape: Shape) -> Result<sys::cudnnTensorDescriptor_t, Error> {
    let sizes = [size(shape.batch)?, size(shape.channels)?, size(shape.height)?, size(shape.width)?];
    let tensor = result::create_tensor_descriptor().map_err(wrong)?;
    // SAFETY: it has just been created.
    #[allow(unsafe_code)]
    unsafe { result::set_tensor4d_descriptor(tensor, FORMAT, NARROW, sizes) }.map_err(wrong)?;
    Ok(tensor)
}
