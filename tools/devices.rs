//! `rwkvq devices`: what can run a model here, and what a model needs of it.

use std::path::PathBuf;

use rwkvq::driver;
use rwkvq::ggml::{Device as GgmlDevice, DeviceKind};
use rwkvq::model::{MemoryPlan, PlannedBytes};
use rwkvq::{Error, Result};
use serde_json::{json, Value};

use crate::device::{self, Device};
use crate::output::{human_bytes, print, print_json, table};

/// List the devices that this program can run a model on, or plan a model's memory on one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what this GGUF needs of the GPU's memory and how many of its layers fit
    #[arg(long, value_name = "MODEL")]
    plan: Option<PathBuf>,
    /// Tokens computed at once [default: 512, as wherever a GPU takes part]
    #[arg(long)]
    batch_tokens: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: Device,
}

pub fn run(args: &Args) -> Result<()> {
    let (value, text) = match &args.plan {
        None => {
            let why = "without --plan no model is opened";
            if args.batch_tokens.is_some() {
                return Err(Error::argument(format!("--batch-tokens: {why}")));
            }
            args.device.refuse(why)?;
            list()?
        }
        Some(path) => {
            let open = args.device.open()?;
            let session = device::session(&open, args.batch_tokens, None);
            let plan = MemoryPlan::new(path, &open, &session)?;
            (plan_json(&plan), plan_text(&plan))
        }
    };
    match args.json {
        true => print_json(serde_json::to_string_pretty(&value)),
        false => print(&text),
    }
}

fn list() -> Result<(Value, String)> {
    let devices: Vec<_> =
        GgmlDevice::all()?.into_iter().filter(|d| d.kind() != DeviceKind::Helper).collect();
    let mut rows = Vec::new();
    let header = ["device", "kind", "memory", "free", "compute capability", "description"];
    let mut table = table(&header, 2);
    for device in &devices {
        let memory = device.memory()?;
        let capability = driver::compute_capability(device);
        let kind = match device.kind() {
            DeviceKind::Gpu => "gpu",
            DeviceKind::IntegratedGpu => "integrated gpu",
            DeviceKind::Cpu | DeviceKind::Helper => "cpu",
        };
        table.add_row([
            device.to_string(),
            kind.to_owned(),
            human_bytes(memory.total as u64),
            human_bytes(memory.free as u64),
            capability.clone().unwrap_or_else(|| "-".into()),
            device.description(),
        ]);
        rows.push(json!({
            "device": device.to_string(),
            "backend": device.backend(),
            "kind": kind,
            "description": device.description(),
            "total_bytes": memory.total,
            "free_bytes": memory.free,
            "compute_capability": capability,
            "bus_id": device.bus_id(),
        }));
    }
    Ok((Value::Array(rows), format!("{table}\n")))
}

fn plan_json(plan: &MemoryPlan) -> Value {
    let bytes = |bytes: &PlannedBytes| {
        json!({
            "weights_bytes": bytes.weights,
            "state_bytes": bytes.state,
            "compute_bytes": bytes.compute,
            "total_bytes": bytes.total(),
        })
    };
    json!({
        "device": plan.device.to_string(),
        "available_bytes": plan.available,
        "layers": plan.n_layer,
        "whole": bytes(&plan.whole),
        "gpu_layers": plan.gpu_layers,
        "fitting": bytes(&plan.fitting),
    })
}

fn plan_text(plan: &MemoryPlan) -> String {
    let mut table = table(&["layers", "weights", "state", "compute", "together"], 1);
    let mut row = |layers: usize, bytes: &PlannedBytes| {
        let parts = [bytes.weights, bytes.state, bytes.compute, bytes.total()];
        table.add_row(std::iter::once(layers.to_string()).chain(parts.map(human_bytes)));
    };
    row(plan.n_layer, &plan.whole);
    if plan.gpu_layers < plan.n_layer {
        row(plan.gpu_layers, &plan.fitting);
    }
    let verdict = match plan.gpu_layers {
        all if all == plan.n_layer => "the whole model fits".to_owned(),
        0 => "no layer fits; --device cpu needs no GPU memory".to_owned(),
        some => format!("{some} layers fit, the CPU runs the others"),
    };
    let available = human_bytes(plan.available);
    format!("{}: {available} may be used; {verdict}\n{table}\n", plan.device)
}
