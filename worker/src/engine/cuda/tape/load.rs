//! The model's layers as entries of the table of parameters: nothing is read yet.

use super::record::Recorder;
use super::{Bias, Element, Norm};
use crate::engine::cuda::parameters::{Form, Parameter, ParameterId, Parameters};
use crate::ops::{ConvShape, Loader};
use std::convert::Infallible;

/// Notes what the model needs.
#[derive(Debug, Default)]
pub struct TapeLoader {
    /// What has been noted.
    pub parameters: Parameters,
    /// The names of layers that are computed as one.
    pub joined: Vec<Vec<String>>,
}

/// Layers whose weights lie one below the other, `[parts outputs, inputs]`. Networks find them by the first's name.
#[derive(Clone, Debug)]
pub struct Joined {
    pub(super) name: String,
    pub(super) weight: ParameterId,
    pub(super) parts: usize,
    /// Of each.
    pub(super) outputs: usize,
}

/// A linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(super) name: String,
    pub(super) weight: ParameterId,
    pub(super) bias: Option<Bias>,
    pub(super) outputs: usize,
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    pub(super) name: String,
    pub(super) weight: ParameterId,
    pub(super) bias: Bias,
    pub(super) shape: ConvShape,
}

impl TapeLoader {
    fn add(&mut self, name: String, shape: Vec<usize>, form: Form, element: Element) -> ParameterId {
        self.parameters.add(Parameter { name, also: Vec::new(), shape, form, element, packed: false })
    }

    fn bias(&mut self, name: &str, width: usize) -> Bias {
        let mut one = |element| self.add(format!("{name}.bias"), vec![width], Form::Plain, element);
        Bias { wide: one(Element::Wide), narrow: one(Element::Narrow) }
    }
}

impl Loader for TapeLoader {
    type Ops = Recorder;
    type Error = Infallible;

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear, Infallible> {
        let weight = self.add(format!("{name}.weight"), vec![outputs, inputs], Form::Plain, Element::Narrow);
        let bias = bias.then(|| self.bias(name, outputs));
        Ok(Linear { name: name.to_owned(), weight, bias, outputs })
    }

    fn joined(&mut self, names: &[String], inputs: usize, outputs: usize) -> Result<Joined, Infallible> {
        let (parts, name) = (names.len(), names.first().cloned().unwrap_or_default());
        let mut stored = names.iter().map(|name| format!("{name}.weight"));
        let weight = self.parameters.add(Parameter {
            name: stored.next().unwrap_or_default(),
            also: stored.collect(),
            shape: vec![parts * outputs, inputs],
            form: Form::Plain,
            element: Element::Narrow,
            packed: false,
        });
        self.joined.push(names.to_vec());
        Ok(Joined { name, weight, parts, outputs })
    }

    fn conv(&mut self, name: &str, shape: ConvShape) -> Result<Conv, Infallible> {
        let stored = vec![shape.outputs, shape.inputs, shape.kernel, shape.kernel];
        let weight = self.add(format!("{name}.weight"), stored, Form::Filter, Element::Narrow);
        Ok(Conv { name: name.to_owned(), weight, bias: self.bias(name, shape.outputs), shape })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<Norm, Infallible> {
        let mut one = |what: &str| self.add(format!("{name}.{what}"), vec![width], Form::Plain, Element::Wide);
        Ok(Norm { scale: one("weight"), shift: one("bias") })
    }

    fn table(&mut self, name: &str, rows: usize, width: usize) -> Result<ParameterId, Infallible> {
        Ok(self.add(format!("{name}.weight"), vec![rows, width], Form::Plain, Element::Narrow))
    }
}
