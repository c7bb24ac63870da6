//! Attention forward by cuDNN, where the version on this machine has it in one piece; else our own kernel does it. Both leave
//! the same sums for the backward pass, which is our own kernels' in any case.
//!
//! The unified scaled-dot-product descriptor of cuDNN's backend interface: a graph of one operation, planned by its
//! heuristics. q, k, v and o are strided as they lie: `[b, rows, heads 64]`, side by side or
//! not, seen as `[b, heads, rows, 64]`.

use super::memory::Memory;
use super::{Error, failed, reason};
use crate::engine::cuda::plan::Heads;
use cudarc::cudnn::{result, sys};
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

/// Engines that are tried.
const TRIED: usize = 8;

/// A backend descriptor, destroyed with its owner.
struct Descriptor(sys::cudnnBackendDescriptor_t);

/// A planned attention. The descriptors that the plan was made of live as long as it does.
struct Planned {
    plan: Descriptor,
    workspace: usize,
    tried: bool,
    _parts: Vec<Descriptor>,
}

/// The library, and what it has planned; `None` for sizes that it does not do.
pub(super) struct Attentions {
    handle: sys::cudnnHandle_t,
    planned: HashMap<Heads, Option<Planned>>,
}

// SAFETY: the handle and the descriptors are used by the one thread that has the device.
#[allow(unsafe_code)]
unsafe impl Send for Attentions {}

fn check(what: &str, status: sys::cudnnStatus_t) -> Result<(), Error> {
    status.result().map_err(|error| failed(&format!("cuDNN's attention, {what}: {}", reason()), &error))
}

impl Descriptor {
    fn new(kind: Kind) -> Result<Self, Error> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes a descriptor, or fails.
        #[allow(unsafe_code)]
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) };
        check("a descriptor", status)?;
        Ok(Self(raw))
    }

    /// Sets an attribute whose type is documented as `T`.
    fn set<T>(&self, name: Name, kind: Type, values: &[T]) -> Result<(), Error> {
        let (count, data) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the descriptor is valid, and so many values of the attribute's type are there.
        #[allow(unsafe_code)]
        let status = unsafe { sys::cudnnBackendSetAttribute(self.0, name, kind, count, data) };
        check(&format!("{name:?}"), status)
    }

    fn set_descriptor(&self, name: Name, other: &Self) -> Result<(), Error> {
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &[other.0])
    }

    fn finish(self, what: &str) -> Result<Self, Error> {
        // SAFETY: the descriptor is valid.
        #[allow(unsafe_code)]
        let status = unsafe { sys::cudnnBackendFinalize(self.0) };
        check(what, status)?;
        Ok(self)
    }

    fn tensor(id: i64, element: sys::cudnnDataType_t, sizes: [i64; 4], strides: [i64; 4]) -> Result<Self, Error> {
        let tensor = Self::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, Type::CUDNN_TYPE_INT64, &[id])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[element])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, Type::CUDNN_TYPE_INT64, &sizes)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, Type::CUDNN_TYPE_INT64, &strides)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, Type::CUDNN_TYPE_INT64, &[16i64])?;
        Ok(tensor)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        #[allow(unsafe_code)]
        unsafe {
            sys::cudnnBackendDestroyDescriptor(self.0);
        }
    }
}

impl Attentions {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, Error> {
        let wrong = |error| failed("cuDNN", &error);
        let attentions = Self { handle: result::create_handle().map_err(wrong)?, planned: HashMap::new() };
        // SAFETY: both are valid, and the device holds the stream longer than this.
        #[allow(unsafe_code)]
        unsafe { result::set_stream(attentions.handle, stream.cu_stream().cast()) }.map_err(wrong)?;
        Ok(attentions)
    }

    /// Plans attention of these sizes; returns the bytes of workspace that it needs, 0 where our own kernel must do it.
    pub(super) fn prepare(&mut self, sizes: Heads) -> usize {
        let handle = self.handle;
        let planned = self.planned.entry(sizes).or_insert_with(|| match plan(handle, sizes) {
            Ok(planned) => Some(planned),
            Err(error) => {
                if !sizes.causal {
                    tracing::warn!("attention of {sizes:?} is computed by our own kernel, which is slower: {error}");
                }
                None
            }
        });
        planned.as_ref().map_or(0, |planned| planned.workspace)
    }

    /// Runs for the first time what was planned; what fails is left to our own kernel.
    pub(super) fn attempt(&mut self, sizes: Heads, places: [u64; 5], workspace: &Memory) {
        if self.planned.get(&sizes).and_then(Option::as_ref).is_none_or(|planned| planned.tried) {
            return;
        }
        let done = self.run(sizes, places, workspace);
        if let Err(error) = &done {
            tracing::warn!("attention of {sizes:?} is computed by our own kernel, which is slower: {error}");
        }
        let Some(slot) = self.planned.get_mut(&sizes) else { return };
        match slot {
            Some(planned) if done.is_ok() => planned.tried = true,
            refused => *refused = None,
        }
    }

    /// Sizes that were asked for and that the library does not do.
    #[cfg(test)]
    pub(super) fn refused(&self) -> Vec<Heads> {
        self.planned.iter().filter(|(_, planned)| planned.is_none()).map(|(sizes, _)| *sizes).collect()
    }

    /// Runs it over the addresses of q, k, v, o and the sums; `false` where our own kernel must do it.
    pub(super) fn run(&self, sizes: Heads, places: [u64; 5], workspace: &Memory) -> Result<bool, Error> {
        let Some(Some(planned)) = self.planned.get(&sizes) else { return Ok(false) };
        let mut scale = scale(sizes);
        let mut pointers = places.map(|place| place as *mut c_void).to_vec();
        pointers.push(std::ptr::from_mut(&mut scale).cast());
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, Type::CUDNN_TYPE_INT64, &[1i64, 2, 3, 4, 5, 6])?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Type::CUDNN_TYPE_VOID_PTR, &pointers)?;
        let room = workspace.at(0)? as *mut c_void;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Type::CUDNN_TYPE_VOID_PTR, &[room])?;
        let pack = pack.finish("the addresses")?;
        // SAFETY: every address is that of a tensor as it was described, and the scale outlives the call.
        #[allow(unsafe_code)]
        let status = unsafe { sys::cudnnBackendExecute(self.handle, planned.plan.0, pack.0) };
        check("running", status)?;
        Ok(true)
    }
}

impl Drop for Attentions {
    fn drop(&mut self) {
        self.planned.clear();
        // SAFETY: nothing of it is left.
        #[allow(unsafe_code)]
        unsafe {
            let _ = result::destroy_handle(self.handle);
        }
    }
}

fn scale(sizes: Heads) -> f32 {
    1.0 / (sizes.size as f32).sqrt()
}

fn plan(handle: sys::cudnnHandle_t, sizes: Heads) -> Result<Planned, Error> {
    if sizes.causal {
        return Err(Error::Device("with the past alone it is not asked of cuDNN".into()));
    }
    let Heads { batch, heads, size, queries, keys, .. } = sizes;
    let [b, h, d, n, m] = [batch, heads, size, queries, keys].map(|size| size as i64);
    let narrow = sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16;
    let single = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    let strides = |rows: i64, row: i64| [rows * row, d, row, 1];
    let [of_q, of_k] = sizes.strides().map(|stride| stride as i64);
    let of_scale = Descriptor::tensor(6, single, [1; 4], [1; 4])?;
    of_scale.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, Type::CUDNN_TYPE_BOOLEAN, &[true])?;
    let tensors = [
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, Descriptor::tensor(1, narrow, [b, h, n, d], strides(n, of_q))?),
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, Descriptor::tensor(2, narrow, [b, h, m, d], strides(m, of_k))?),
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, Descriptor::tensor(3, narrow, [b, h, m, d], strides(m, of_k))?),
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, Descriptor::tensor(4, narrow, [b, h, n, d], strides(n, h * d))?),
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, Descriptor::tensor(5, single, [b, h, n, 1], [h * n, n, 1, 1])?),
        (Name::CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, of_scale),
    ];
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)?;
    let mut parts = Vec::new();
    for (name, tensor) in tensors {
        let tensor = tensor.finish("a tensor")?;
        operation.set_descriptor(name, &tensor)?;
        parts.push(tensor);
    }
    let operation = operation.finish("the operation")?;
    let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
    graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle])?;
    graph.set_descriptor(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operation)?;
    let graph = graph.finish("the graph")?;
    let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    heuristics.set_descriptor(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &graph)?;
    let mode = sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A;
    heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, Type::CUDNN_TYPE_HEUR_MODE, &[mode])?;
    let heuristics = heuristics.finish("the heuristics")?;
    let mut last = Error::Device("no engine is offered".into());
    for engine in offered(&heuristics)? {
        match execution(handle, &engine) {
            Ok((plan, workspace)) => {
                parts.extend([operation, graph, heuristics, engine]);
                return Ok(Planned { plan, workspace, tried: false, _parts: parts });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The engines that the heuristics offer, the best first.
fn offered(heuristics: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let mut engines = Vec::with_capacity(TRIED);
    for _ in 0..TRIED {
        engines.push(Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?);
    }
    let mut raw: Vec<_> = engines.iter().map(|engine| engine.0).collect();
    let (mut count, kind) = (0i64, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR);
    let name = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    let (room, data) = (TRIED as i64, raw.as_mut_ptr().cast::<c_void>());
    // SAFETY: it fills up to so many descriptors, which are there.
    #[allow(unsafe_code)]
    let status = unsafe { sys::cudnnBackendGetAttribute(heuristics.0, name, kind, room, &mut count, data) };
    check("the engines", status)?;
    engines.truncate(usize::try_from(count).unwrap_or(0));
    Ok(engines)
}

/// An execution plan of an engine, and its bytes of workspace.
fn execution(handle: sys::cudnnHandle_t, engine: &Descriptor) -> Result<(Descriptor, usize), Error> {
    let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
    plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle])?;
    plan.set_descriptor(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine)?;
    let plan = plan.finish("an execution plan")?;
    let (mut bytes, mut count) = (0i64, 0i64);
    let (name, kind) = (Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, Type::CUDNN_TYPE_INT64);
    let data = std::ptr::from_mut(&mut bytes).cast::<c_void>();
    // SAFETY: it writes one number.
    #[allow(unsafe_code)]
    let status = unsafe { sys::cudnnBackendGetAttribute(plan.0, name, kind, 1, &mut count, data) };
    check("the workspace", status)?;
    Ok((plan, usize::try_from(bytes).unwrap_or(0)))
}
