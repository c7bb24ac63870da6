//! What a synthetic worker has to do, and the answers to it.

use super::answer;
use super::fault::Fault;
use lora_rates_proto::v1::drawn;
use lora_rates_proto::v1::join_request::Message;
use lora_rates_proto::v1::{Draw, Drawn, Encode, Encoded, Evaluate, Evaluated, Gradient, Lease, Rates};

/// Something to do.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Encode(Encode),
    Lease(Lease),
    Evaluate(Evaluate),
    Draw(Draw),
}

impl Work {
    pub(super) fn search_id(&self) -> &str {
        match self {
            Self::Encode(it) => &it.search_id,
            Self::Lease(it) => &it.search_id,
            Self::Evaluate(it) => &it.search_id,
            Self::Draw(it) => &it.search_id,
        }
    }

    /// Whether rates of this step make it void.
    pub(super) fn is_void(&self, rates: &Rates) -> bool {
        matches!(self, Self::Lease(lease) if lease.search_id == rates.search_id && lease.step < rates.step)
    }
}

/// What is said on a piece of work. `fault` is what goes wrong with this one.
pub(super) fn answers(work: &Work, rates: &[f32], fault: Fault) -> Vec<Message> {
    match work {
        Work::Encode(Encode { search_id, image, flip }) => {
            vec![Message::Encoded(Encoded { search_id: search_id.clone(), image: *image, flip: *flip })]
        }
        Work::Evaluate(evaluate) => vec![Message::Evaluated(evaluated(evaluate, fault))],
        Work::Draw(Draw { search_id, step, item, .. }) => {
            let result = Some(drawn::Result::Failure("a synthetic worker has no model".to_owned()));
            vec![Message::Drawn(Drawn { search_id: search_id.clone(), step: *step, item: *item, result })]
        }
        Work::Lease(lease) => computed(gradient(lease, rates), fault).into_iter().map(Message::Gradient).collect(),
    }
}

fn gradient(lease: &Lease, rates: &[f32]) -> Gradient {
    let seeds: Vec<f64> = lease.samples.iter().map(answer::seed).collect();
    let (mse, loss, gradient) = answer::gradient(rates, &seeds);
    let Lease { search_id, step, microbatch, .. } = lease.clone();
    Gradient { search_id, step, microbatch, mse, loss, gradient }
}

fn computed(mut right: Gradient, fault: Fault) -> Vec<Gradient> {
    match fault {
        Fault::Nan => right.gradient.iter_mut().step_by(7).for_each(|value| *value = f64::NAN),
        Fault::Shapes => right.gradient.extend([0.0; 20]),
        Fault::Garbled => right.gradient.push(0.0),
        Fault::Stale => right.step = right.step.saturating_sub(1),
        Fault::Duplicate => return vec![right.clone(), right],
        Fault::Foreign => {
            let foreign = Gradient { search_id: "another".into(), ..right.clone() };
            return vec![foreign, right];
        }
        Fault::None | Fault::Silent | Fault::Hang | Fault::Disconnect | Fault::Fail => {}
    }
    vec![right]
}

fn evaluated(evaluate: &Evaluate, fault: Fault) -> Evaluated {
    let seeds: Vec<f64> = evaluate.samples.iter().map(answer::seed).collect();
    let mut losses = answer::losses(&evaluate.rates, &seeds);
    match fault {
        Fault::Nan => losses[0] = f64::NAN,
        Fault::Shapes => losses.push(0.0),
        _ => {}
    }
    Evaluated { search_id: evaluate.search_id.clone(), step: evaluate.step, item: evaluate.item, losses }
}
