//! From leaf operations to what a GPU is told: kernels with their grids and arguments, products and convolutions for the
//! libraries. Still pure: addresses are offsets, so all of it is tested without a GPU.

mod attention;
mod lower;
mod norms;

pub use lower::{Packed, lower};

use super::parameters::ParameterId;
use super::plan::{Geometry, Heads};

/// Where something lies on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the arena, in bytes.
    Arena(usize),
    /// A parameter.
    Parameter(ParameterId),
    /// In the workspace that one operation's kernels share, in bytes.
    Scratch(usize),
    /// Nowhere.
    Null,
}

/// One launch of one of our kernels. All take `Arguments` of kernels/common.cu by value.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Pointers, at most 12.
    pub pointers: Vec<Address>,
    /// Sizes and flags, at most 12.
    pub numbers: Vec<i32>,
    /// Factors, at most 4.
    pub factors: Vec<f32>,
}

/// A product of matrices: [`super::plan::Instruction::Product`] with addresses.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "as the instruction's")]
pub struct Product {
    pub x: Address,
    pub weight: Address,
    pub transposed: bool,
    pub bias: Option<Address>,
    pub addend: Option<Address>,
    pub out: Address,
    /// Whether out, bias and addend are f32.
    pub wide: bool,
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub parts: usize,
    /// Whether x, out and the addend have the parts one below the other, as the weight has.
    pub below: bool,
}

/// A convolution without bias, or the gradient of its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The image, or the gradient of the result.
    pub x: Address,
    /// The filter.
    pub weight: Address,
    /// The result, or the gradient of the image.
    pub out: Address,
    /// Sizes.
    pub geometry: Geometry,
    /// Whether it is the gradient.
    pub backward: bool,
    /// Our kernel, which is right but slow.
    pub own: Launch,
}

/// Attention forward, of which a library may know a faster way than our kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// q, k, v, the result and the sums.
    pub places: [Address; 5],
    /// Sizes.
    pub sizes: Heads,
    /// Our kernel.
    pub own: Launch,
}

/// What is done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// By one of our kernels.
    Launch(Launch),
    /// By cuBLASLt.
    Product(Product),
    /// By cuDNN, or by our kernel where that refuses.
    Conv(Conv),
    /// Likewise.
    Attention(Attention),
}

/// A lowered program.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// What each of the program's instructions comes to, in the order of execution.
    pub by_instruction: Vec<Vec<Step>>,
    /// Bytes of scratch that the kernels need.
    pub scratch: usize,
}

/// Arguments of a kernel as they lie in memory: `Arguments` of kernels/common.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arguments {
    /// Pointers.
    pub pointers: [u64; 12],
    /// Sizes and flags.
    pub numbers: [i32; 12],
    /// Factors.
    pub factors: [f32; 4],
}

impl Launch {
    /// The arguments, addresses resolved.
    pub fn arguments(&self, resolve: impl Fn(Address) -> u64) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.pointers.iter_mut().zip(&self.pointers).for_each(|(to, from)| *to = resolve(*from));
        arguments.numbers.iter_mut().zip(&self.numbers).for_each(|(to, from)| *to = *from);
        arguments.factors.iter_mut().zip(&self.factors).for_each(|(to, from)| *to = *from);
        arguments
    }
}

/// The kernels' source in one piece, in the order in which they need each other.
pub const KERNELS: &str = concat!(
    include_str!("../kernels/common.cu"),
    include_str!("../kernels/pointwise.cu"),
    include_str!("../kernels/rates.cu"),
    include_str!("../kernels/norms.cu"),
    include_str!("../kernels/convolution.cu"),
    include_str!("../kernels/tiles.cu"),
    include_str!("../kernels/attention.cu"),
);
