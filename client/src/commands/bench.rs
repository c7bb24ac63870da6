//! `lora-rates bench`: how fast this machine is, beside what it could be.

use super::ModelSize;
use crate::failure::Failure;
use crate::output::stdout;
use crate::progress::note;
use lora_rates_common::spec::Precision;
use lora_rates_worker::bench::{self, Options, Report};
use lora_rates_worker::device::{self, Device};
use lora_rates_worker::engine::EngineKind;
use lora_rates_worker::engine::breakdown::PartTime;

/// Measure the speed of the gradient on this machine
///
/// Makes an SDXL with random weights in memory, attaches random networks to all attention and feed-forward layers, and
/// times steps. The yardstick is a large matrix product on the same device in the same run.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Args {
    /// How many networks
    #[arg(long, default_value_t = 1)]
    networks: usize,

    /// Rank of each network
    #[arg(long, default_value_t = 32)]
    rank: usize,

    /// Side of the pictures in pixels
    #[arg(long, default_value_t = 1024)]
    resolution: usize,

    /// Pictures of a step
    #[arg(long, default_value_t = 1)]
    train_batch_size: usize,

    /// Timed steps
    #[arg(long, default_value_t = 5)]
    steps: usize,

    /// Size of the model: full (2.6 billion parameters in the UNet) or tiny
    #[arg(long, value_enum, default_value_t = ModelSize::Full)]
    model: ModelSize,

    /// Where to compute: cpu, cuda or cuda:K [default: the first GPU, else the CPU]
    #[arg(long)]
    device: Option<Device>,

    /// What computes the UNet: burn (any device) or cuda (NVIDIA GPUs in bf16); auto is cuda where that can compute
    #[arg(long, default_value_t, value_name = "auto|burn|cuda")]
    engine: EngineKind,

    /// What the model is computed in: no (f32) or bf16 [default: bf16 on a GPU, no on the CPU]
    #[arg(long, value_name = "no|bf16")]
    mixed_precision: Option<Precision>,

    /// Compute the activations of each block again instead of keeping them
    #[arg(long)]
    gradient_checkpointing: bool,

    /// Keep the UNet's weights in eight bits; needs engine cuda
    #[arg(long)]
    fp8_base: bool,

    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// The options make no sense, or the device failed.
pub fn run(args: Args) -> Result<(), Failure> {
    let device = args.device.unwrap_or_else(device::best);
    let default = if device == Device::Cpu { Precision::F32 } else { Precision::Bf16 };
    let options = Options {
        config: args.model.config(),
        device,
        engine: args.engine,
        precision: args.mixed_precision.unwrap_or(default),
        gradient_checkpointing: args.gradient_checkpointing,
        fp8_base: args.fp8_base,
        networks: args.networks,
        rank: args.rank,
        resolution: args.resolution,
        batch: args.train_batch_size,
        steps: args.steps,
    };
    let report = bench::run(&options, &mut |activity| note(activity)).map_err(|error| match error {
        bench::Error::Request(_) => Failure::usage(error),
        other => other.into(),
    })?;
    stdout::print(&if args.json { json(&options, &report) } else { table(&report) })?;
    Ok(())
}

fn table(report: &Report) -> String {
    let Report { operations, spread, memory, .. } = report;
    let gigabytes = memory.map(|bytes| bytes as f64 / 1e9);
    let lines = [
        ("device", report.device.clone()),
        ("loading", format!("{:.1} s", report.load)),
        ("first step", format!("{:.1} s (kernels compiled and tuned)", report.first_step)),
        ("step", format!("{:.4} s (median; {:.4} to {:.4})", report.step, spread.0, spread.1)),
        ("speed", format!("{:.3} images/s", report.images_per_second)),
        (
            "operations",
            format!("{:.3} TFLOP a step, {:.3} of them forward", operations.total() / 1e12, operations.forward / 1e12),
        ),
        ("rate", format!("{:.2} TFLOP/s", operations.total() / report.step / 1e12)),
        ("copy", format!("{:.0} GB/s, measured in this run", report.copy_rate / 1e9)),
        ("matrix product", format!("{:.2} TFLOP/s, measured in this run", report.matmul_rate / 1e12)),
        ("share", format!("{:.1} % of the matrix product's rate", 100.0 * report.share)),
        (
            "memory",
            format!(
                "{:.2} GB model, {:.2} GB with networks, {:.2} GB at most",
                gigabytes[0], gigabytes[1], gigabytes[2]
            ),
        ),
        ("loss", format!("{:.6}{}", report.loss, if report.repeatable { "" } else { "; NOT the same in every step" })),
    ];
    lines.map(|(name, value)| format!("{name:<15}{value}\n")).concat() + &parts(report)
}

/// Where the time goes, for an engine that can tell.
fn parts(report: &Report) -> String {
    let Some(breakdown) = &report.breakdown else { return String::new() };
    let milliseconds = |seconds: f64| format!("{:.3} ms", 1e3 * seconds);
    let one = |part: &PartTime| {
        let speed = if part.operations > 0.0 {
            let rate = part.operations / part.seconds;
            format!("{:.1} TFLOP/s, {:.0} % of the matrix product's", rate / 1e12, 100.0 * rate / report.matmul_rate)
        } else {
            let rate = part.bytes / part.seconds;
            format!("{:.0} GB/s, {:.0} % of a copy's", rate / 1e9, 100.0 * rate / report.copy_rate)
        };
        let name = part.work.to_string();
        format!("  {name:<15}{:>12}, {} operations, {speed}\n", milliseconds(part.seconds), part.count)
    };
    // Steps that follow each other may draw so much power that the clock sinks; one by itself runs at full clock.
    let (once, again) = (milliseconds(breakdown.device), milliseconds(breakdown.sustained));
    let whole = format!("  {:<15}{once:>12} after a pause, {again} again and again\n", "all together");
    let rest = milliseconds(report.step - breakdown.sustained);
    let rest = format!("  {:<15}{rest:>12}\n", "host, gaps");
    let lines: String = breakdown.parts.iter().map(one).collect();
    format!("time on the device, each kind of work alone:\n{lines}{whole}{rest}")
}

fn json(options: &Options, report: &Report) -> String {
    let part = |part: &PartTime| {
        serde_json::json!({
            "work": part.work.to_string(),
            "seconds": part.seconds,
            "count": part.count,
            "operations": part.operations,
            "bytes": part.bytes,
        })
    };
    let object = serde_json::json!({
        "device": report.device,
        "engine": options.engine.to_string(),
        "networks": options.networks,
        "rank": options.rank,
        "resolution": options.resolution,
        "batch_size": options.batch,
        "mixed_precision": options.precision,
        "gradient_checkpointing": options.gradient_checkpointing,
        "fp8_base": options.fp8_base,
        "load_seconds": report.load,
        "first_step_seconds": report.first_step,
        "step_seconds": report.step,
        "images_per_second": report.images_per_second,
        "operations": report.operations.total(),
        "matmul_rate": report.matmul_rate,
        "copy_rate": report.copy_rate,
        "share": report.share,
        "peak_bytes": report.memory[2],
        "loss": report.loss,
        "gradient": report.gradient,
        "repeatable": report.repeatable,
        "device_seconds": report.breakdown.as_ref().map(|breakdown| breakdown.device),
        "sustained_seconds": report.breakdown.as_ref().map(|breakdown| breakdown.sustained),
        "parts": report.breakdown.iter().flat_map(|breakdown| &breakdown.parts).map(part).collect::<Vec<_>>(),
    });
    format!("{object}\n")
}
