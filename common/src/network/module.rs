//! A network's module: what it adds to, its rank and its scale, checked against its layer.

use super::adapter::Adapter;
use super::assign::Slot;
use super::error::shown;
use super::{Error, family};
use crate::block::Block;
use crate::sdxl::{Layer, LayerKind};
use crate::tensor_file::{Dtype, TensorFile, TensorView};

/// What a network adds to one layer: `scale * up(down(x))`, times the block's rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Canonical name of the layer: `unet.input_blocks.4.1.proj_in`.
    pub layer: String,
    /// The slot of the rates that scales it.
    pub block: Block,
    /// What the layer computes. A convolution's down has its kernel, stride and padding, its up is 1 x 1.
    pub kind: LayerKind,
    /// Rows of down and columns of up; at least 1.
    pub rank: usize,
    /// alpha / rank; 1 if the file says nothing of an alpha. Finite.
    pub scale: f32,
    /// Key of the factor that the input meets first.
    pub down_key: String,
    /// Key of the factor that makes the output.
    pub up_key: String,
}

/// Reads the modules of one file.
pub(super) struct Reader<'a> {
    file: &'a TensorFile,
    context: usize,
    adapter: Adapter,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a TensorFile, context: usize) -> Result<Self, Error> {
        let adapter = Adapter::read(file.metadata()).map_err(|why| metadata_error(file, why))?;
        Ok(Self { file, context, adapter })
    }

    /// The module of this layer.
    pub(super) fn module(&self, layer: &Layer, slot: &Slot<'_>) -> Result<Module, Error> {
        let (down_key, up_key) = self.halves(slot)?;
        let down = self.weights(down_key)?;
        let up = self.weights(up_key)?;
        let Some(rank) = rank_of_down(layer.kind, &down.shape) else {
            return Err(self.misshapen(&down, layer, down_shape(layer.kind)));
        };
        if rank == 0 {
            return Err(Error::ZeroRank { path: self.file.path().to_owned(), key: shown(down_key) });
        }
        if !up_fits(layer.kind, rank, &up.shape) {
            return Err(self.misshapen(&up, layer, up_shape(layer.kind, rank)));
        }
        self.check_finite(&down)?;
        self.check_finite(&up)?;
        Ok(Module {
            layer: layer.name.clone(),
            block: layer.block,
            kind: layer.kind,
            rank,
            scale: self.scale(layer, slot, rank)?,
            down_key: down_key.to_owned(),
            up_key: up_key.to_owned(),
        })
    }

    fn halves<'k>(&self, slot: &Slot<'k>) -> Result<(&'k str, &'k str), Error> {
        let missing = match (slot.down, slot.up) {
            (Some(down), Some(up)) => return Ok((down, up)),
            (Some(_), None) => "up half (lora_up, lora_B)",
            (None, Some(_)) => "down half (lora_down, lora_A)",
            (None, None) => "weights (lora_down and lora_up)",
        };
        Err(Error::MissingHalf {
            path: self.file.path().to_owned(),
            key: shown(slot.down.or(slot.up).unwrap_or(slot.first)),
            missing,
        })
    }

    fn tensor(&self, key: &str) -> Result<TensorView<'a>, Error> {
        self.file.get(key).ok_or_else(|| Error::OtherNetwork { path: self.file.path().to_owned(), key: shown(key) })
    }

    fn weights(&self, key: &str) -> Result<TensorView<'a>, Error> {
        let view = self.tensor(key)?;
        if view.is_float() {
            return Ok(view);
        }
        Err(Error::Dtype { path: self.file.path().to_owned(), key: shown(key), dtype: view.dtype })
    }

    fn check_finite(&self, view: &TensorView<'_>) -> Result<(), Error> {
        match view.first_non_finite() {
            None => Ok(()),
            Some(place) => Err(Error::NotFinite { path: self.file.path().to_owned(), key: shown(view.name), place }),
        }
    }

    fn misshapen(&self, view: &TensorView<'_>, layer: &Layer, takes: String) -> Error {
        Error::Shape {
            path: self.file.path().to_owned(),
            key: shown(view.name),
            found: view.shape.clone(),
            expected: format!("layer {} takes {takes}", layer.name),
            family: family::guess(self.file, self.context),
        }
    }

    /// alpha / rank: by the alpha beside the weights, else by the adapter's settings in the header, else 1.
    fn scale(&self, layer: &Layer, slot: &Slot<'_>, rank: usize) -> Result<f32, Error> {
        let Some(key) = slot.alpha else {
            let scale = self.adapter.scale(layer.part, slot.module, rank);
            return scale.map_err(|why| metadata_error(self.file, why));
        };
        let view = self.tensor(key)?;
        let bad = |why| Error::Alpha { path: self.file.path().to_owned(), key: shown(key), why };
        if view.shape.iter().any(|side| *side != 1) {
            return Err(bad(format!("has shape {:?}", view.shape)));
        }
        let alpha = number(&view).ok_or_else(|| bad(format!("has type {}", view.dtype)))?;
        let scale = (alpha / rank as f64) as f32;
        if !scale.is_finite() {
            return Err(bad(format!("is {alpha}")));
        }
        Ok(scale)
    }
}

fn metadata_error(file: &TensorFile, why: String) -> Error {
    Error::Metadata { path: file.path().to_owned(), why }
}

/// The one element of a tensor: floats, and the integers that some tools write alphas as.
fn number(view: &TensorView<'_>) -> Option<f64> {
    fn bytes<const N: usize>(view: &TensorView<'_>) -> Option<[u8; N]> {
        view.data.try_into().ok()
    }
    match view.dtype {
        Dtype::F64 => bytes(view).map(f64::from_le_bytes),
        Dtype::I64 => bytes(view).map(|bytes| i64::from_le_bytes(bytes) as f64),
        Dtype::U64 => bytes(view).map(|bytes| u64::from_le_bytes(bytes) as f64),
        Dtype::I32 => bytes(view).map(|bytes| i32::from_le_bytes(bytes).into()),
        Dtype::U32 => bytes(view).map(|bytes| u32::from_le_bytes(bytes).into()),
        Dtype::I16 => bytes(view).map(|bytes| i16::from_le_bytes(bytes).into()),
        Dtype::U16 => bytes(view).map(|bytes| u16::from_le_bytes(bytes).into()),
        Dtype::I8 => bytes(view).map(|bytes| i8::from_le_bytes(bytes).into()),
        Dtype::U8 => bytes(view).map(|bytes| u8::from_le_bytes(bytes).into()),
        _ => view.to_f32().ok()?.first().map(|value| f64::from(*value)),
    }
}

/// Inputs, outputs and side of the kernel, which is 1 for a linear layer.
fn sizes(kind: LayerKind) -> (usize, usize, usize) {
    match kind {
        LayerKind::Linear { inputs, outputs } => (inputs, outputs, 1),
        LayerKind::Conv { inputs, outputs, kernel, .. } => (inputs, outputs, kernel),
    }
}

/// The rank of a down tensor of this shape; `None` if it doesn't fit the layer.
fn rank_of_down(kind: LayerKind, shape: &[usize]) -> Option<usize> {
    let (inputs, _, kernel) = sizes(kind);
    match *shape {
        [rank, width] if kernel == 1 && width == inputs => Some(rank),
        [rank, width, high, wide] if width == inputs && high == kernel && wide == kernel => Some(rank),
        _ => None,
    }
}

fn up_fits(kind: LayerKind, rank: usize, shape: &[usize]) -> bool {
    let (_, outputs, _) = sizes(kind);
    matches!(*shape, [height, width] | [height, width, 1, 1] if height == outputs && width == rank)
}

fn down_shape(kind: LayerKind) -> String {
    match sizes(kind) {
        (inputs, _, 1) => format!("[rank, {inputs}] or [rank, {inputs}, 1, 1]"),
        (inputs, _, kernel) => format!("[rank, {inputs}, {kernel}, {kernel}]"),
    }
}

fn up_shape(kind: LayerKind, rank: usize) -> String {
    let (_, outputs, _) = sizes(kind);
    format!("[{outputs}, {rank}] or [{outputs}, {rank}, 1, 1], its down half being of rank {rank}")
}
