//! Products of matrices by cuBLASLt: bfloat16 in, sums in f32, bias and residual in the epilogue.
//!
//! Row by row, `out = x W^T` is column by column `out^T = W x^T`, so W is cuBLASLt's A and x its B. For each shape the
//! algorithms that its heuristics offer are timed once, and the fastest is remembered on disk: which one it is decides the
//! last bits of the result.

use super::descriptors::{Key, Planned, describe, set, wrong};
use super::memory::Memory;
use super::{Error, cache, driver};
use crate::engine::cuda::launch::Product;
use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys::{self, cublasLtMatmulDescAttributes_t as Attribute};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUevent_flags;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes that algorithms may work in: what NVIDIA recommends for Hopper.
pub(super) const WORKSPACE: usize = 32 << 20;
/// Algorithms that are timed.
const TRIED: usize = 8;
/// Runs of each, after one that is not timed.
const RUNS: usize = 5;

/// Addresses of a product's matrices; 0 for none.
pub(super) struct Places {
    pub(super) x: u64,
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) addend: u64,
    pub(super) out: u64,
}

/// The library, and what it has planned. Descriptors live as long as it does.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    planned: HashMap<Key, Planned>,
    file: String,
    /// Algorithms by the names of their shapes, as they are on disk.
    remembered: BTreeMap<String, [u64; 8]>,
}

// SAFETY: the handle and the descriptors are used by the one thread that has the device.
#[allow(unsafe_code)]
unsafe impl Send for Products {}

/// The library's version.
pub(super) fn version() -> usize {
    // SAFETY: it takes nothing and returns a number.
    #[allow(unsafe_code)]
    unsafe {
        sys::cublasLtGetVersion()
    }
}

impl Products {
    pub(super) fn new(stream: &Arc<CudaStream>, model: &str) -> Result<Self, Error> {
        stream.context().bind_to_thread().map_err(driver)?;
        let model: String = model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let file = format!("products-{model}-{}-f32.txt", version());
        let remembered = parse(&String::from_utf8_lossy(&cache::read(&file).unwrap_or_default()));
        Ok(Self { handle: lt::create_handle().map_err(wrong)?, planned: HashMap::new(), file, remembered })
    }

    /// Chooses an algorithm for a product, timing those that there are on these very matrices, whose numbers it overwrites.
    pub(super) fn prepare(
        &mut self,
        stream: &Arc<CudaStream>,
        product: &Product,
        places: &Places,
        workspace: &Memory,
    ) -> Result<(), Error> {
        let key = Key::of(product);
        if self.planned.contains_key(&key) {
            return Ok(());
        }
        let mut planned = describe(&key, places.bias)?;
        // Another process on the same kind of GPU may have chosen meanwhile: all are to compute alike.
        if !self.remembered.contains_key(&key.name()) {
            self.adopt();
        }
        let known = self.remembered.get(&key.name()).map(|data| sys::cublasLtMatmulAlgo_t { data: *data });
        // One of a damaged file does nothing, and is chosen anew.
        let works = |algorithm: &sys::cublasLtMatmulAlgo_t| {
            self.multiply(stream, &planned, algorithm, &key, places, workspace).is_ok()
        };
        let algorithm = match known.filter(works) {
            Some(known) => known,
            None => self.fastest(stream, &planned, &key, places, workspace)?,
        };
        planned.algorithm = Some(algorithm);
        self.remembered.insert(key.name(), algorithm.data);
        self.planned.insert(key, planned);
        Ok(())
    }

    pub(super) fn is_planned(&self, product: &Product) -> bool {
        self.planned.contains_key(&Key::of(product))
    }

    /// Takes what is on disk for shapes that are not known yet.
    fn adopt(&mut self) {
        let stored = parse(&String::from_utf8_lossy(&cache::read(&self.file).unwrap_or_default()));
        for (name, words) in stored {
            self.remembered.entry(name).or_insert(words);
        }
    }

    /// Writes the chosen algorithms to disk, beside what others have written there.
    pub(super) fn remember(&mut self) {
        self.adopt();
        cache::write(&self.file, print(&self.remembered).as_bytes());
    }

    pub(super) fn known(&self) -> usize {
        self.remembered.len()
    }

    pub(super) fn run(
        &self,
        stream: &Arc<CudaStream>,
        product: &Product,
        places: &Places,
        workspace: &Memory,
    ) -> Result<(), Error> {
        let key = Key::of(product);
        let unplanned = || Error::Device(format!("product {} was not prepared", key.name()));
        let planned = self.planned.get(&key).ok_or_else(unplanned)?;
        let algorithm = planned.algorithm.as_ref().ok_or_else(unplanned)?;
        self.multiply(stream, planned, algorithm, &key, places, workspace)
    }

    fn multiply(
        &self,
        stream: &Arc<CudaStream>,
        planned: &Planned,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        key: &Key,
        places: &Places,
        workspace: &Memory,
    ) -> Result<(), Error> {
        let (one, beta) = (1.0f32, if key.addend { 1.0f32 } else { 0.0 });
        let pointer = |address: u64| address as *mut c_void;
        let number = |number: &f32| std::ptr::from_ref(number).cast::<c_void>();
        if key.bias {
            set(planned.operation, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &places.bias)?;
        }
        // What is added lies apart from the result, or is the result itself, unread.
        let addend = if key.addend { places.addend } else { places.out };
        // SAFETY: descriptors are valid, and each address is that of a matrix of the described sizes.
        #[allow(unsafe_code)]
        unsafe {
            lt::matmul(
                self.handle,
                planned.operation,
                number(&one),
                number(&beta),
                pointer(places.weight),
                planned.weight,
                pointer(places.x),
                planned.x,
                pointer(addend),
                planned.out,
                pointer(places.out),
                planned.out,
                algorithm,
                pointer(workspace.at(0)?),
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(wrong)
    }

    /// Times what the heuristics offer.
    fn fastest(
        &self,
        stream: &Arc<CudaStream>,
        planned: &Planned,
        key: &Key,
        places: &Places,
        workspace: &Memory,
    ) -> Result<sys::cublasLtMatmulAlgo_t, Error> {
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let mut best: Option<(f32, sys::cublasLtMatmulAlgo_t)> = None;
        for algorithm in self.offered(planned)? {
            // One that can't run after all is left out.
            if self.multiply(stream, planned, &algorithm, key, places, workspace).is_err() {
                continue;
            }
            let begin = stream.record_event(timed).map_err(driver)?;
            for _ in 0..RUNS {
                self.multiply(stream, planned, &algorithm, key, places, workspace)?;
            }
            let end = stream.record_event(timed).map_err(driver)?;
            end.synchronize().map_err(driver)?;
            let time = begin.elapsed_ms(&end).map_err(driver)?;
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, algorithm));
            }
        }
        let none = || Error::Device(format!("cuBLASLt has no algorithm for a product {}", key.name()));
        best.map(|(_, algorithm)| algorithm).ok_or_else(none)
    }

    fn offered(&self, planned: &Planned) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, Error> {
        let preference = lt::create_matmul_pref().map_err(wrong)?;
        let bytes = WORKSPACE;
        let most = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let mut count = 0;
        // SAFETY: all descriptors are valid; a result is plain data, and `count` says how many have been written.
        #[allow(unsafe_code)]
        let found = unsafe {
            let mut found: [sys::cublasLtMatmulHeuristicResult_t; TRIED] = std::mem::zeroed();
            let set = lt::set_matmul_pref_attribute(
                preference,
                most,
                std::ptr::from_ref(&bytes).cast(),
                std::mem::size_of::<usize>(),
            );
            let scheme = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
            // Sums of parts of a sum stay in f32, in the workspace.
            let wide = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
            let set = set.and_then(|()| {
                let (value, bytes) = (std::ptr::from_ref(&wide).cast(), std::mem::size_of::<u32>());
                lt::set_matmul_pref_attribute(preference, scheme, value, bytes)
            });
            let asked = set.and_then(|()| {
                let Planned { operation, weight, x, out, .. } = planned;
                let room = TRIED as i32;
                let (results, count) = (found.as_mut_ptr(), &mut count);
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.handle,
                    *operation,
                    *weight,
                    *x,
                    *out,
                    *out,
                    preference,
                    room,
                    results,
                    count,
                )
                .result()
            });
            lt::destroy_matmul_pref(preference).map_err(wrong)?;
            asked.map_err(wrong)?;
            found
        };
        let works = |found: &&sys::cublasLtMatmulHeuristicResult_t| found.state.result().is_ok();
        Ok(found.iter().take(count.max(0) as usize).filter(works).map(|found| found.algo).collect())
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: each was created by this library and is destroyed once.
        #[allow(unsafe_code)]
        unsafe {
            for planned in self.planned.values() {
                let _ = lt::destroy_matmul_desc(planned.operation);
                for layout in [planned.weight, planned.x, planned.out] {
                    let _ = lt::destroy_matrix_layout(layout);
                }
            }
            let _ = lt::destroy_handle(self.handle);
        }
    }
}

/// Lines of a shape's name and its algorithm's eight words.
fn print(remembered: &BTreeMap<String, [u64; 8]>) -> String {
    let line = |(name, words): (&String, &[u64; 8])| {
        let words: Vec<String> = words.iter().map(|word| format!("{word:016x}")).collect();
        format!("{name} {}\n", words.join(" "))
    };
    remembered.iter().map(line).collect()
}

/// What can be read of such lines.
fn parse(text: &str) -> BTreeMap<String, [u64; 8]> {
    let line = |line: &str| {
        let mut parts = line.split(' ');
        let name = parts.next()?.to_owned();
        let words: Vec<u64> = parts.map(|word| u64::from_str_radix(word, 16).ok()).collect::<Option<_>>()?;
        Some((name, words.try_into().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_read_as_they_were_written_and_damaged_lines_are_left_out() {
        let known = BTreeMap::from([("4x8x16-1010".to_owned(), [1, 2, 3, 4, 5, 6, 7, u64::MAX])]);
        assert_eq!(parse(&print(&known)), known);
        assert_eq!(parse(&format!("{}8x8x8-0000 12 x\nnonsense\n", print(&known))), known);
    }
}
