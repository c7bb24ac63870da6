//! Where the time of a gradient goes.

use std::fmt;

/// What a leaf operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Products with the model's own weights.
    Linear,
    /// Products with the networks' factors.
    Networks,
    /// Convolutions and their gradients.
    Convolution,
    /// Attention and its gradients.
    Attention,
    /// Norms, activations, sums, copies: all that waits for memory.
    Elementwise,
    /// Rates times `h`, and the gradient by rate.
    Rates,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linear => "linear layers",
            Self::Networks => "networks",
            Self::Convolution => "convolutions",
            Self::Attention => "attention",
            Self::Elementwise => "elementwise",
            Self::Rates => "rates",
        })
    }
}

/// One kind of work in one gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartTime {
    /// Which.
    pub work: Work,
    /// Seconds that the device takes for these operations alone, one after the other.
    pub seconds: f64,
    /// Leaf operations.
    pub count: usize,
    /// Floating-point operations of their products, as [`super::count::Count`] counts them.
    pub operations: f64,
    /// Bytes of activations that they read and write.
    pub bytes: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Breakdown {
    /// By kind of work.
    pub parts: Vec<PartTime>,
    /// Seconds that the device takes for everything, forward and backward, without the host's part between.
    pub device: f64,
    /// The same when it is launched again and again without a pause: under load a device's clock may sink.
    pub sustained: f64,
}
