//! Memory of the device, in bytes.

use super::{Element, Error, driver};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice};
use half::bf16;
use rayon::prelude::*;
use std::sync::Arc;

/// One allocation.
pub(super) struct Memory {
    bytes: CudaSlice<u8>,
    address: u64,
}

impl Memory {
    /// Zeros.
    pub(super) fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self, Error> {
        let bytes = stream.alloc_zeros::<u8>(bytes.max(1)).map_err(driver)?;
        let address = bytes.device_ptr(stream).0;
        Ok(Self { bytes, address })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The address of an offset.
    pub(super) fn at(&self, offset: usize) -> Result<u64, Error> {
        if offset < self.bytes.len() { Ok(self.address + offset as u64) } else { Err(Error::NoPlan) }
    }

    /// Makes it at least so large, its contents lost; says whether it has moved.
    pub(super) fn grow(&mut self, stream: &Arc<CudaStream>, bytes: usize) -> Result<bool, Error> {
        if bytes <= self.bytes.len() {
            return Ok(false);
        }
        // Two of them may be more than there is.
        *self = Self::new(stream, 1)?;
        stream.synchronize().map_err(driver)?;
        *self = Self::new(stream, bytes)?;
        Ok(true)
    }

    pub(super) fn write(&mut self, stream: &Arc<CudaStream>, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let mut to = self.bytes.try_slice_mut(offset..offset + bytes.len()).ok_or(Error::NoPlan)?;
        stream.memcpy_htod(bytes, &mut to).map_err(driver)
    }

    /// Has all of a staging area written, without waiting for it.
    pub(super) fn write_staged(&mut self, stream: &Arc<CudaStream>, at: usize, from: &Staging) -> Result<(), Error> {
        let mut to = self.bytes.try_slice_mut(at..at + from.0.len()).ok_or(Error::NoPlan)?;
        stream.memcpy_htod(&from.0, &mut to).map_err(driver)
    }

    /// Has it filled, likewise.
    pub(super) fn read_staged(&self, stream: &Arc<CudaStream>, at: usize, to: &mut Staging) -> Result<(), Error> {
        let from = self.bytes.try_slice(at..at + to.0.len()).ok_or(Error::NoPlan)?;
        stream.memcpy_dtoh(&from, &mut to.0).map_err(driver)
    }
}

/// Memory of the host that the device reads and writes by itself.
pub(super) struct Staging(PinnedHostSlice<u8>);

impl Staging {
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, Error> {
        // SAFETY: the bytes are unset, and no number that they may be is wrong; all are written before any is read.
        #[allow(unsafe_code)]
        let slice = unsafe { context.alloc_pinned_with_flags(bytes, 0) };
        Ok(Self(slice.map_err(driver)?))
    }

    /// Its bytes, once the device has done with them.
    pub(super) fn free(&mut self) -> Result<&mut [u8], Error> {
        self.0.as_mut_slice().map_err(driver)
    }
}

/// Numbers that a thread converts at least.
const SHARE: usize = 1 << 14;

/// Numbers as they lie on the device.
pub(super) fn encode(values: &[f32], element: Element) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * super::width(element)];
    encode_into(&mut bytes, values, element);
    bytes
}

/// The same, to where they shall be.
pub(super) fn encode_into(bytes: &mut [u8], values: &[f32], element: Element) {
    match element {
        Element::Wide => {
            let places = bytes.as_chunks_mut().0.par_iter_mut().with_min_len(SHARE);
            places.zip(values).for_each(|(to, x)| *to = x.to_le_bytes());
        }
        Element::Narrow => {
            let places = bytes.as_chunks_mut().0.par_iter_mut().with_min_len(SHARE);
            places.zip(values).for_each(|(to, x)| *to = bf16::from_f32(*x).to_le_bytes());
        }
    }
}

/// And back.
pub(super) fn decode(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::Wide => bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
        Element::Narrow => bytes.as_chunks::<2>().0.iter().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
    }
}
