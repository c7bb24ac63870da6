//! Writes the seeds of both targets: `cargo +nightly run --example seeds` in tests/fuzz. Those of requests are made here,
//! those of network files are cut out of the golden ones.

use lora_rates_common::convert::{BlobKey, CreateSearch, SearchEvent};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::tensor_file::{NewTensor, TensorFile, write};
use lora_rates_proto::PROTOCOL;
use lora_rates_proto::v1::{self, join_request::Message as Said, join_response::Message as Told};
use lora_rates_test_support::fixture;
use lora_rates_tests::reference::trajectory;
use lora_rates_tests::searches::Size;
use prost::Message;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Modules kept of every network.
const MODULES: usize = 3;

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    requests(&seeds.join("requests"));
    network_files(&seeds.join("network_files"));
}

/// One message of every kind.
fn requests(seeds: &Path) {
    fs::create_dir_all(seeds).expect("a folder");
    let size = Size { images: 3, validate_every: 5, ..Size::default() };
    let spec = Arc::new(size.spec());
    let trajectory = trajectory(&spec);
    let create = CreateSearch { request_id: "r".into(), spec: spec.clone(), name: "n".into() };
    let create = v1::CreateSearchRequest::from(&create);
    fs::write(seeds.with_file_name("create_search.bin"), create.encode_to_vec()).expect("a seed");
    let seed = |name: &str, kind: u8, bytes: Vec<u8>| {
        fs::write(seeds.join(name), [&[kind][..], &bytes].concat()).expect("a seed");
    };
    seed("create", 0, create.encode_to_vec());

    let search_id = || "s".to_owned();
    let sample = v1::Sample { image: 1, repeat: 0, flip: true, timestep: 5, noise_step: 3, noise_sample: 1 };
    let said = [
        Said::Hello(v1::Hello { protocol: PROTOCOL, name: "w".into(), device: "cpu".into(), memory: None }),
        Said::Progress(v1::Progress { search_id: search_id(), activity: "a".into(), done: 1, total: 2 }),
        Said::Ready(v1::Ready { search_id: search_id() }),
        Said::Gradient(v1::Gradient {
            search_id: search_id(),
            step: 1,
            microbatch: 2,
            mse: vec![1.0],
            loss: 1.0,
            gradient: vec![0.5; 20],
        }),
        Said::Failed(v1::Failed { search_id: search_id(), message: "m".into() }),
        Said::Heartbeat(v1::Heartbeat { idle_ms: Some(3), memory: Some(v1::Memory { total: 2, free: 1 }) }),
        Said::Encoded(v1::Encoded { search_id: search_id(), image: 1, flip: true }),
        Said::Evaluated(v1::Evaluated { search_id: search_id(), step: 1, item: 1, losses: vec![1.0] }),
    ];
    for (at, message) in said.into_iter().enumerate() {
        seed(&format!("said_{at}"), 2, v1::JoinRequest { message: Some(message) }.encode_to_vec());
    }
    let (samples, rates) = (vec![sample], vec![0.5; 40]);
    let told = [
        Told::Prepare(v1::Prepare { search_id: search_id(), spec: create.spec }),
        Told::Rates(v1::Rates { search_id: search_id(), step: 1, rates: rates.clone() }),
        Told::Lease(v1::Lease { search_id: search_id(), step: 1, microbatch: 1, samples: samples.clone() }),
        Told::Encode(v1::Encode { search_id: search_id(), image: 1, flip: true }),
        Told::Evaluate(v1::Evaluate { search_id: search_id(), step: 1, item: 1, rates, samples }),
        Told::Describe(v1::Describe { number: 1, path: "a/b".into(), vae: Some("v".into()) }),
    ];
    for (at, message) in told.into_iter().enumerate() {
        seed(&format!("told_{at}"), 3, v1::JoinResponse { message: Some(message) }.encode_to_vec());
    }
    let events = [
        SearchEvent::Step(Arc::new(trajectory.steps[0].clone())),
        SearchEvent::Validation(Arc::new(trajectory.validations[0].clone())),
    ];
    for (at, event) in events.iter().enumerate() {
        seed(&format!("event_{at}"), 4, v1::WatchSearchResponse::from(event).encode_to_vec());
    }
    let blob = Some((&BlobKey::File("0a".repeat(32))).into());
    seed("blob", 5, v1::GetBlobRequest { blob, offset: 3 }.encode_to_vec());
    seed("describe", 5, v1::DescribeModelRequest { path: "a/b".into(), vae: None }.encode_to_vec());
    seed("path", 7, b"a/../b".to_vec());
    seed("config", 7, serde_json::to_vec(&SdxlConfig::tiny()).expect("JSON"));
}

/// Parts of the golden networks, of those that are supported and those that are not.
fn network_files(seeds: &Path) {
    fs::create_dir_all(seeds).expect("a folder");
    let names = ["L1_attention", "L2_unet_te", "L3_locon", "L4_diffusers_names", "L5_peft", "L5b_peft_metadata"];
    let refused = ["L6_loha", "L7_lokr", "L8_dora", "L9_locon_tucker"];
    for name in names.into_iter().chain(refused) {
        let file = TensorFile::open(&fixture(&format!("lora/{name}.safetensors"))).expect("a golden network");
        let small = seeds.join("part.safetensors");
        cut(&file, &small);
        let bytes = fs::read(&small).expect("a file");
        fs::remove_file(&small).expect("a file");
        let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
        let length = u16::try_from(u64::from_le_bytes(*length)).expect("a short header");
        fs::write(seeds.join(name), [&[1][..], &length.to_le_bytes(), rest].concat()).expect("a seed");
        fs::write(seeds.join(format!("{name}_plain")), [&[0][..], &bytes].concat()).expect("a seed");
    }
}

/// Writes the tensors of the smallest modules of a file.
fn cut(file: &TensorFile, to: &Path) {
    let stem = |name: &str| {
        let end = [".lora_", ".alpha", ".hada_", ".lokr_", ".dora_", ".processor", ".lora."].iter();
        end.filter_map(|part| name.find(part)).min().map_or(name.len(), |at| at)
    };
    let mut modules: BTreeSet<(usize, &str)> = BTreeSet::new();
    for name in file.names() {
        let module = &name[..stem(name)];
        let of_module = file.names().filter(|it| it.starts_with(module));
        let size = of_module.filter_map(|it| file.get(it)).map(|it| it.data.len()).sum();
        modules.insert((size, module));
    }
    let kept: BTreeSet<&str> = modules.into_iter().take(MODULES).map(|(_, module)| module).collect();
    let kept = file.names().filter(|name| kept.contains(&name[..stem(name)])).filter_map(|name| file.get(name));
    let tensors: Vec<NewTensor<'_>> = kept
        .map(|it| NewTensor { name: it.name.into(), dtype: it.dtype, shape: it.shape.clone(), data: it.data.into() })
        .collect();
    write(to, &tensors, file.metadata()).expect("a file");
}
