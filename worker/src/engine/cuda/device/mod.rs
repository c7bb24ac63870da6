//! An NVIDIA GPU as a device for programs: our kernels, cuBLASLt and cuDNN, each half of a program captured as a CUDA graph.
//!
//! The libraries are loaded at run time. Unsafe code is here alone, in calls that hand pointers to them: every pointer lies in
//! an allocation that the device holds, at an offset that the plan has checked.

mod attention;
mod cache;
mod convolutions;
mod descriptors;
mod kernels;
mod memory;
mod products;
mod programs;
pub mod rate;

#[cfg(test)]
mod tests;

use super::Error;
use super::launch::{Address, Launch, Packed, Step};
use super::packed;
use super::parameters::{Parameter, ParameterId};
use super::plan::{LANES, Lane};
use super::tape::Element;
use attention::Attentions;
use convolutions::Convolutions;
use cudarc::driver::{CudaContext, CudaStream, DriverError};
use kernels::Kernels;
use memory::Memory;
use products::Products;
use std::collections::HashMap;
use std::sync::Arc;

/// Priority of the main queue, above the default 0 of those aside, which fill what it leaves idle.
const FIRST: i32 = -1;

/// A GPU.
pub struct Gpu {
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Queues for what is computed aside, each with what cuBLASLt works in, in the order of the lanes.
    aside: Vec<(Arc<CudaStream>, Memory)>,
    kernels: Kernels,
    products: Products,
    convolutions: Convolutions,
    attentions: Attentions,
    parameters: HashMap<ParameterId, Memory>,
    /// Which of them are packed.
    packed: Packed,
    arena: Memory,
    /// What one step's kernels pass to each other.
    scratch: Memory,
    /// What the libraries work in.
    workspace: Memory,
    /// Counts the times that any of the three has moved: graphs have their addresses inside.
    generation: u64,
}

impl Gpu {
    /// Opens a GPU by the driver's number and compiles the kernels for it, if that was not done before.
    ///
    /// # Errors
    /// [`Error::Library`] for a library that is not there, [`Error::Device`].
    pub fn open(index: usize) -> Result<Self, Error> {
        present()?;
        let context = CudaContext::new(index).map_err(driver)?;
        // SAFETY: everything of ours is on one stream, in whose order alone buffers are used and freed; events beside it would
        // only get into the way of capturing.
        #[allow(unsafe_code)]
        unsafe {
            context.disable_event_tracking();
        }
        let stream = context.new_stream_with_priority(FIRST).map_err(driver)?;
        let model = context.name().map_err(driver)?;
        let kernels = Kernels::load(&context)?;
        let products = Products::new(&stream, &model)?;
        let (convolutions, attentions) = (Convolutions::new(&stream)?, Attentions::new(&stream)?);
        let none = || Memory::new(&stream, 1);
        let (arena, scratch, workspace) = (none()?, none()?, Memory::new(&stream, products::WORKSPACE)?);
        let mut aside = Vec::new();
        for _ in &LANES[1..] {
            aside.push((context.new_stream().map_err(driver)?, Memory::new(&stream, products::WORKSPACE)?));
        }
        tracing::info!("engine cuda on {model}: cuBLASLt {}, cuDNN {}", products::version(), convolutions::version());
        Ok(Self {
            name: format!("cuda:{index}"),
            context,
            stream,
            aside,
            kernels,
            products,
            convolutions,
            attentions,
            parameters: HashMap::new(),
            packed: Packed::new(),
            arena,
            scratch,
            workspace,
            generation: 0,
        })
    }

    /// What the libraries were asked for and refused, in words.
    #[cfg(test)]
    pub(in crate::engine::cuda) fn refused(&self) -> Vec<String> {
        let convolutions = self.convolutions.refused().into_iter().map(|refused| format!("{refused:?}"));
        let attentions = self.attentions.refused().into_iter().filter(|sizes| !sizes.causal);
        convolutions.chain(attentions.map(|sizes| format!("{sizes:?}"))).collect()
    }

    fn resolve(&self, address: Address) -> Result<u64, Error> {
        match address {
            Address::Arena(offset) => self.arena.at(offset),
            Address::Scratch(offset) => self.scratch.at(offset),
            Address::Parameter(id) => {
                let missing = || Error::Device(format!("parameter {} was never stored", id.0));
                self.parameters.get(&id).ok_or_else(missing)?.at(0)
            }
            Address::Null => Ok(0),
        }
    }

    /// The queue of a lane, and what cuBLASLt works in there.
    fn queue(&self, lane: Lane) -> (&Arc<CudaStream>, &Memory) {
        let aside = (lane as usize).checked_sub(1).and_then(|place| self.aside.get(place));
        aside.map_or((&self.stream, &self.workspace), |(stream, workspace)| (stream, workspace))
    }

    /// Puts one step into a lane's queue. What cuDNN does, and what needs scratch, is for the main one.
    fn enqueue(&self, step: &Step, lane: Lane) -> Result<(), Error> {
        let (stream, workspace) = self.queue(lane);
        match step {
            Step::Launch(launch) => self.launch(launch, stream),
            Step::Attention(attention) => {
                let [q, k, v, out, sums] = attention.places.map(|place| self.resolve(place));
                let places = [q?, k?, v?, out?, sums?];
                if self.attentions.run(attention.sizes, places, &self.workspace)? {
                    return Ok(());
                }
                self.launch(&attention.own, stream)
            }
            Step::Product(product) => {
                let places = self.product_places(product)?;
                self.products.run(stream, product, &places, workspace)
            }
            Step::Conv(conv) => {
                let places = [self.resolve(conv.x)?, self.resolve(conv.weight)?, self.resolve(conv.out)?];
                if self.convolutions.run(conv, places, &self.workspace)? {
                    return Ok(());
                }
                self.launch(&conv.own, stream)
            }
        }
    }

    fn launch(&self, launch: &Launch, stream: &Arc<CudaStream>) -> Result<(), Error> {
        let places = launch.pointers.iter().map(|place| self.resolve(*place)).collect::<Result<Vec<_>, _>>()?;
        self.kernels.launch(stream, launch, &places)
    }

    fn product_places(&self, product: &super::launch::Product) -> Result<products::Places, Error> {
        let optional = |address: Option<Address>| address.map_or(Ok(0), |address| self.resolve(address));
        Ok(products::Places {
            x: self.resolve(product.x)?,
            weight: self.resolve(product.weight)?,
            bias: optional(product.bias)?,
            addend: optional(product.addend)?,
            out: self.resolve(product.out)?,
        })
    }

    fn keep(&mut self, id: ParameterId, parameter: &Parameter, values: &[f32]) -> Result<(), Error> {
        if values.len() != parameter.count() {
            let (got, want) = (values.len(), parameter.count());
            return Err(Error::Sizes { what: parameter.name.clone(), got, want });
        }
        let [rows, columns] = parameter.matrix();
        let bytes = match parameter.packed {
            true => packed::pack(values, rows),
            false => memory::encode(values, parameter.element),
        };
        if parameter.packed {
            self.packed.insert(id, [rows, columns]);
        }
        let mut memory = Memory::new(&self.stream, bytes.len())?;
        memory.write(&self.stream, 0, &bytes)?;
        self.parameters.insert(id, memory);
        Ok(())
    }
}

/// Bytes of a number.
fn width(element: Element) -> usize {
    match element {
        Element::Wide => 4,
        Element::Narrow => 2,
    }
}

/// Whether the libraries are on this machine.
///
/// # Errors
/// [`Error::Library`], naming the first that is not.
pub fn present() -> Result<(), Error> {
    const HINT: &str =
        "install the CUDA toolkit's and cuDNN's shared libraries and add their folders to LD_LIBRARY_PATH";
    // SAFETY: these only try to load a library, which has no preconditions.
    #[allow(unsafe_code)]
    let libraries = unsafe {
        [
            ("the NVIDIA driver (libcuda)", cudarc::driver::sys::is_culib_present()),
            ("NVRTC (libnvrtc)", cudarc::nvrtc::sys::is_culib_present()),
            ("cuBLASLt (libcublasLt)", cudarc::cublaslt::sys::is_culib_present()),
            ("cuDNN (libcudnn)", cudarc::cudnn::sys::is_culib_present()),
        ]
    };
    match libraries.into_iter().find(|(_, there)| !there) {
        Some((library, _)) => Err(Error::Library { library, hint: HINT }),
        None => Ok(()),
    }
}

/// What a failure of the driver means.
fn driver(error: DriverError) -> Error {
    failed("the driver", &error)
}

/// What cuDNN says of its last failure on this thread, if anything.
fn reason() -> String {
    let mut text = [0u8; 512];
    // SAFETY: it writes at most so many bytes, the last of them 0.
    #[allow(unsafe_code)]
    unsafe {
        cudarc::cudnn::sys::cudnnGetLastErrorString(text.as_mut_ptr().cast(), text.len());
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

/// What a failure of a library means.
fn failed(who: &str, error: &dyn std::fmt::Debug) -> Error {
    let words = format!("{who}: {error:?}");
    let full = ["OUT_OF_MEMORY", "ALLOC_FAILED", "ALLOCATION_FAILED"].iter().any(|sign| words.contains(sign));
    if full { Error::OutOfMemory(words) } else { Error::Device(words) }
}
