//! What is kept, and what is not taken.

use crate::process::{PATIENCE, Process, text};
use lora_rates_common::convert::{BlobKey, CreateSearch, SearchState, SearchStatus};
use lora_rates_common::dataset::Image;
use lora_rates_common::dataset::buckets::Fit;
use lora_rates_common::optimizer::AdamW;
use lora_rates_common::spec::{ModelRef, NetworkRef, Precision, SearchOptions, SearchSpec, hex};
use lora_rates_proto::connect::{self, Access};
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

const NETWORK: &[u8] = b"a network";
const PICTURE: &[u8] = b"a picture";

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn key(bytes: &[u8]) -> v1::BlobKey {
    (&BlobKey::File(sha256(bytes))).into()
}

fn spec() -> SearchSpec {
    let size = (64, 64);
    let fit = Fit { bucket: size, resized: size, cut: (0, 0), crop: (0, 0), crop_flipped: (0, 0) };
    let (path, caption) = ("cat.png".into(), "a cat".into());
    let image =
        Image { path, sha256: sha256(PICTURE), caption, size, repeats: 1, loss_weight: 1.0, fit, held_out: false };
    let (name, sha256) = ("style".into(), sha256(NETWORK));
    SearchSpec {
        model: ModelRef { path: "model.safetensors".into(), vae: None, digest: "1b".repeat(32) },
        networks: vec![NetworkRef { name, path: "style.safetensors".into(), sha256, live: [true; 20] }],
        images: vec![image],
        options: options(),
        sampling: Default::default(),
    }
}

fn options() -> SearchOptions {
    SearchOptions {
        seed: 3,
        max_train_steps: 5,
        train_batch_size: 1,
        gradient_accumulation_steps: 1,
        flip_aug: false,
        min_timestep: 0,
        max_timestep: 1000,
        max_token_length: Default::default(),
        noise_offset: 0.0,
        application_loss_weight: 1e-4,
        loss: Default::default(),
        optimizer: AdamW::default(),
        learning_rate: Default::default(),
        mixed_precision: Precision::F32,
        gradient_checkpointing: false,
        cache_latents: true,
        cache_dir: None,
        skip_unmatched_keys: false,
        penalize_dead_slots: false,
        validation_split: 0.0,
        validate_every_n_steps: 0,
        early_stop: 0,
        validation_samples_per_image: 0,
        timestep_sampling: Default::default(),
        noise_sampling: Default::default(),
        prune: 0.0,
        curvature: false,
        curvature_bound: None,
        fp8_base: false,
    }
}

async fn blobs(process: &Process) -> Blobs {
    Blobs::new(connect::connect(&process.url(), &Access::default()).await.unwrap())
}

async fn upload(process: &Process) {
    let mut blobs = blobs(process).await;
    for bytes in [NETWORK, PICTURE] {
        blobs.put_bytes(&key(bytes), bytes).await.unwrap();
    }
}

async fn create(process: &Process, request_id: &str) -> Result<SearchStatus, Status> {
    let create = CreateSearch { request_id: request_id.into(), spec: Arc::new(spec()), name: "mine".into() };
    let created = process.client().await.create_search(v1::CreateSearchRequest::from(&create)).await?;
    Ok(created.into_inner().search.try_into().unwrap())
}

#[tokio::test]
async fn a_search_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--data-dir", text(folder.path())];
    let process = Process::start(&arguments);
    assert_eq!(create(&process, "r").await.unwrap_err().code(), Code::FailedPrecondition, "its files are missing");
    upload(&process).await;
    let created = create(&process, "r").await.unwrap();
    process.kill();

    let process = Process::start(&arguments);
    let request = v1::GetSearchRequest { search_id: created.search_id.clone() };
    let found = process.client().await.get_search(request).await.unwrap().into_inner().search;
    let found = SearchStatus::try_from(found).unwrap();
    assert_eq!((found.state, found.step, found.name.as_str()), (SearchState::Preparing, 0, "mine"));
    assert_eq!((found.created_ms, &found.rates), (created.created_ms, &created.rates));
    // The client never knew whether it was created, and asks again.
    assert_eq!(create(&process, "r").await.unwrap().search_id, created.search_id);
    assert!(process.page("/metrics").1.contains("lora_rates_searches{state=\"preparing\"} 1"));
}

#[tokio::test]
async fn only_one_coordinator_may_use_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--admin-listen", "none", "--data-dir", text(folder.path())];
    let _first = Process::start_at(&arguments);
    let (code, said) = crate::process::fails(&arguments);
    assert!(code == 1 && said.contains(text(folder.path())), "{said}");
}

#[tokio::test]
async fn more_searches_or_bytes_than_allowed_are_refused() {
    let process = Process::start(&["--max-searches", "1", "--max-blob-bytes", "1000"]);
    upload(&process).await;
    create(&process, "first").await.unwrap();
    create(&process, "first").await.unwrap();
    assert_eq!(create(&process, "second").await.unwrap_err().code(), Code::ResourceExhausted);
    let large = vec![7; 2000];
    let error = blobs(&process).await.put_bytes(&key(&large), &large).await.unwrap_err();
    assert!(error.to_string().contains("--max-blob-bytes"), "{error}");
}

/// Starts it again where it was.
fn restart(process: Process, data: &Path) -> Process {
    let address = process.address.to_string();
    process.kill();
    Process::start_at(&["--listen", &address, "--admin-listen", "none", "--data-dir", text(data)])
}

/// Waits until a file below the folder has so many bytes.
async fn until_there(folder: &Path, bytes: u64) {
    let start = Instant::now();
    while largest(folder) < bytes {
        assert!(start.elapsed() < PATIENCE, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn largest(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => largest(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_go_on_where_a_kill_ended_them() {
    let folder = tempfile::tempdir().unwrap();
    let (data, source, copy) = (folder.path().join("data"), folder.path().join("source"), folder.path().join("copy"));
    let mut bytes = vec![0; 96 << 20];
    for (at, page) in (0_u32..).zip(bytes.chunks_mut(4096)) {
        page[..4].copy_from_slice(&at.to_le_bytes());
    }
    std::fs::write(&source, &bytes).unwrap();
    let mut process = Process::start(&["--data-dir", text(&data)]);

    let (mut there, key) = (blobs(&process).await, key(&bytes));
    let (name, from) = (key.clone(), source.clone());
    let (sender, told) = std::sync::mpsc::channel();
    let put = tokio::spawn(async move { there.put_file(&name, &from, |done| sender.send(done).unwrap()).await });
    until_there(&data.join("blobs"), 8 << 20).await;
    process = restart(process, &data);
    put.await.unwrap().unwrap();
    let told: Vec<u64> = told.iter().collect();
    assert!(told.iter().any(|done| (8 << 20..bytes.len() as u64).contains(done)), "it went on, not anew: {told:?}");

    let (mut back, to) = (blobs(&process).await, copy.clone());
    assert!(back.has(&key).await.unwrap());
    let get = tokio::spawn(async move { back.get_file(&key, &to).await });
    while std::fs::metadata(copy.with_extension("part")).map_or(0, |part| part.len()) < 8 << 20 {
        assert!(!get.is_finished(), "too fast to be interrupted");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let process = restart(process, &data);
    get.await.unwrap().unwrap();
    assert!(std::fs::read(&copy).unwrap() == bytes);
    drop(process);
}
