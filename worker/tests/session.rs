//! A worker's session over a real connection, with the tiny model on the CPU, for a coordinator that does what the tests
//! say.

mod fake;

use fake::{Fake, Joined};
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::convert::{BlobKey, Evaluate, Lease, Prepare, Rates};
use lora_rates_common::dataset::Image;
use lora_rates_common::dataset::buckets::Fit;
use lora_rates_common::picture::RgbImage;
use lora_rates_common::spec::{ModelRef, NetworkRef, Precision, SearchOptions, SearchSpec, hex};
use lora_rates_common::{optimizer, schedule};
use lora_rates_proto::connect::Access;
use lora_rates_proto::v1;
use lora_rates_proto::v1::join_request::Message as Up;
use lora_rates_proto::v1::join_response::Message as Down;
use lora_rates_test_support::{fixture, tiny_single};
use lora_rates_worker::device::Device;
use lora_rates_worker::engine::EngineKind;
use lora_rates_worker::session::{self, Coordinator, Error, Files, Options};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;

/// A search of two pictures and one network, its files in a folder, and a worker that has them not.
struct Place {
    folder: tempfile::TempDir,
    spec: SearchSpec,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        fs::create_dir(&models).unwrap();
        fs::copy(tiny_single(), models.join("tiny.safetensors")).unwrap();
        let digest = Checkpoint::open(&tiny_single()).unwrap().digest();
        let network = fixture("lora/L1_attention.safetensors");
        let images = (0..2).map(|number| image(folder.path(), number)).collect();
        let spec = SearchSpec {
            model: ModelRef { path: "tiny.safetensors".into(), vae: None, digest },
            networks: vec![NetworkRef {
                name: "one".into(),
                path: "one.safetensors".into(),
                sha256: sha256(&network),
                live: [true; 20],
            }],
            images,
            options: options(),
            sampling: Default::default(),
        };
        Self { folder, spec }
    }

    /// The spec's files, as a client uploads them.
    fn upload(&self, fake: &Fake) {
        for path in [fixture("lora/L1_attention.safetensors"), self.picture(0), self.picture(1)] {
            fake.put(&BlobKey::File(sha256(&path)), fs::read(path).unwrap());
        }
    }

    fn picture(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("{number}.png"))
    }

    fn encoding(&self, number: u32) -> BlobKey {
        BlobKey::Encoding(self.spec.encoding_key(number, false).unwrap())
    }

    /// Starts a worker that leaves when told.
    fn worker(&self, fake: &Fake) -> Worker {
        let options = Options {
            name: "it".into(),
            device: Device::Cpu,
            engine: EngineKind::Auto,
            coordinator: Coordinator::Url { url: fake.url(), access: Access::default() },
            files: Files::Remote {
                model_dir: self.folder.path().join("models"),
                cache_dir: self.folder.path().join("cache"),
            },
        };
        let (leave, left) = oneshot::channel();
        let running = tokio::spawn(session::run(options, async { drop(left.await) }));
        Worker { running, leave }
    }

    async fn prepare(&self, joined: &mut Joined) {
        let prepare = Prepare { search_id: "s".into(), spec: self.spec.clone().into() };
        joined.tell(Down::Prepare((&prepare).into())).await;
        let said = joined.says().await;
        assert!(matches!(said, Up::Ready(_)), "{said:?}");
    }

    async fn rates(&self, joined: &Joined, step: u64) {
        let rates = Rates { search_id: "s".into(), step, rates: vec![0.5; 20] };
        joined.tell(Down::Rates(rates.into())).await;
    }

    async fn lease(&self, joined: &Joined, step: u64) {
        let batch = self.spec.plan().unwrap().step(0).remove(0);
        joined.tell(Down::Lease((&Lease { search_id: "s".into(), step, microbatch: 0, batch }).into())).await;
    }

    async fn gradient(&self, joined: &mut Joined) -> v1::Gradient {
        self.rates(joined, 0).await;
        self.lease(joined, 0).await;
        match joined.says().await {
            Up::Gradient(gradient) => gradient,
            said => panic!("{said:?}"),
        }
    }
}

struct Worker {
    running: JoinHandle<Result<(), Error>>,
    leave: oneshot::Sender<()>,
}

fn image(folder: &Path, number: u32) -> Image {
    let path = folder.join(format!("{number}.png"));
    RgbImage::from_fn(64, 64, |x, y| [(x * 4) as u8, (y * 3) as u8, (number * 90) as u8].into()).save(&path).unwrap();
    let bucket = (64, 64);
    Image {
        path: format!("{number}.png").into(),
        sha256: sha256(&path),
        caption: format!("picture {number}"),
        size: bucket,
        repeats: 1,
        loss_weight: 1.0,
        fit: Fit { bucket, resized: bucket, cut: (0, 0), crop: (0, 0), crop_flipped: (0, 0) },
        held_out: false,
    }
}

fn options() -> SearchOptions {
    SearchOptions {
        seed: 3,
        max_train_steps: 4,
        train_batch_size: 2,
        gradient_accumulation_steps: 1,
        flip_aug: false,
        min_timestep: 0,
        max_timestep: 1000,
        max_token_length: Default::default(),
        noise_offset: 0.0,
        application_loss_weight: 0.0,
        loss: Default::default(),
        optimizer: optimizer::AdamW::default(),
        learning_rate: schedule::Options::default(),
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

fn sha256(path: &Path) -> String {
    hex(&Sha256::digest(fs::read(path).unwrap()))
}

fn encode(image: u32) -> Down {
    Down::Encode(v1::Encode { search_id: "s".into(), image, flip: false })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_prepared_encoded_computed_and_evaluated_from_the_coordinators_files() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    place.upload(&fake);
    let _worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    for number in 0..2 {
        joined.tell(encode(number)).await;
        let said = joined.says().await;
        assert!(matches!(&said, Up::Encoded(v1::Encoded { image, .. }) if *image == number), "{said:?}");
        let bytes = fake.get(&place.encoding(number)).expect("the encoding was stored before it was told");
        lora_rates_worker::encoding::from_bytes(&bytes, (64, 64)).unwrap();
    }
    let gradient = place.gradient(&mut joined).await;
    assert_eq!((gradient.mse.len(), gradient.gradient.len()), (2, 20));
    assert!(gradient.gradient.iter().any(|by_rate| *by_rate != 0.0));

    // The same samples without gradient have the same losses; without weights and factors these are the errors.
    let batch = place.spec.plan().unwrap().step(0).remove(0);
    let evaluate = Evaluate { search_id: "s".into(), step: 4, item: 7, rates: vec![0.5; 20], batch };
    joined.tell(Down::Evaluate((&evaluate).into())).await;
    let Up::Evaluated(v1::Evaluated { step: 4, item: 7, losses, .. }) = joined.says().await else { panic!("other") };
    assert_eq!(losses, gradient.mse);
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_from_the_store_from_memory_and_by_itself_give_the_same_bits() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    place.upload(&fake);
    let _first = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    // It encodes both by itself, and stores them.
    let alone = place.gradient(&mut joined).await;
    assert_eq!(place.gradient(&mut joined).await, alone);
    let begin = Instant::now();
    while (0..2).any(|number| fake.get(&place.encoding(number)).is_none()) {
        assert!(begin.elapsed() < Duration::from_secs(20), "encodings made by itself are stored too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The second has no pictures to encode; one of the encodings is damaged, and it needs that picture.
    fake.put(&place.encoding(1), b"not an encoding".to_vec());
    fake.forget(&BlobKey::File(place.spec.images[0].sha256.clone()));
    let _second = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    assert_eq!(place.gradient(&mut joined).await, alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_is_not_encoded_again() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    place.upload(&fake);
    fake.put(&place.encoding(0), b"whatever".to_vec());
    fake.forget(&BlobKey::File(place.spec.images[0].sha256.clone()));
    let _worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    joined.tell(encode(0)).await;
    assert!(matches!(joined.says().await, Up::Encoded(v1::Encoded { image: 0, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reconnection_the_same_search_is_ready_at_once() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    place.upload(&fake);
    let worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    let before = place.gradient(&mut joined).await;
    drop(joined);
    let mut joined = fake.worker().await;
    // Without the files it could not prepare anew.
    fs::remove_file(place.folder.path().join("models/tiny.safetensors")).unwrap();
    fs::copy(tiny_single(), place.folder.path().join("models/tiny.safetensors")).unwrap();
    let begin = Instant::now();
    let prepare = Prepare { search_id: "s".into(), spec: place.spec.clone().into() };
    joined.tell(Down::Prepare((&prepare).into())).await;
    let said = joined.next().await;
    assert!(matches!(said, Some(Up::Ready(_) | Up::Heartbeat(_))), "it prepares anew: {said:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    if !matches!(said, Some(Up::Ready(_))) {
        assert!(matches!(joined.says().await, Up::Ready(_)));
    }
    assert_eq!(place.gradient(&mut joined).await, before);
    // It leaves in order: says so, and waits for the end of the stream.
    worker.leave.send(()).unwrap();
    assert!(matches!(joined.says().await, Up::Leaving(_)));
    assert!(!worker.running.is_finished());
    drop(joined);
    worker.running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_leases_are_not_answered() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    place.upload(&fake);
    let _worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    place.prepare(&mut joined).await;
    place.rates(&joined, 1).await;
    place.lease(&joined, 0).await;
    place.lease(&joined, 1).await;
    // Nor those of a search that was released.
    let said = joined.says().await;
    assert!(matches!(&said, Up::Gradient(v1::Gradient { step: 1, .. })), "{said:?}");
    place.lease(&joined, 1).await;
    joined.tell(Down::Release(v1::Release { search_id: "s".into() })).await;
    place.lease(&joined, 1).await;
    place.prepare(&mut joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_described_and_nothing_outside_is_revealed() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    let _worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    let describe = |number, path: &str| Down::Describe(v1::Describe { number, path: path.into(), vae: None });
    joined.tell(describe(1, "tiny.safetensors")).await;
    let Up::Described(v1::Described { number: 1, result: Some(v1::described::Result::Description(model)) }) =
        joined.says().await
    else {
        panic!("no description")
    };
    assert_eq!(model.digest, place.spec.model.digest);
    joined.tell(describe(2, "other.safetensors")).await;
    let Up::Described(v1::Described { number: 2, result: Some(v1::described::Result::Failure(failure)) }) =
        joined.says().await
    else {
        panic!("a description")
    };
    assert_eq!(failure, "there is no model other.safetensors below the worker's model folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_can_not_be_prepared_fails_in_words_without_paths_of_the_worker() {
    let mut place = Place::new();
    let mut fake = Fake::start().await;
    let _worker = place.worker(&fake);
    let mut joined = fake.worker().await;
    let here = place.folder.path().display().to_string();
    let failure = async |joined: &mut Joined, spec: &SearchSpec| {
        let prepare = Prepare { search_id: "s".into(), spec: spec.clone().into() };
        joined.tell(Down::Prepare((&prepare).into())).await;
        let Up::Failed(failed) = joined.says().await else { panic!("it is prepared") };
        assert!(!failed.message.contains(&here), "{}", failed.message);
        failed.message
    };
    // The network is not there.
    let missing = failure(&mut joined, &place.spec).await;
    assert!(missing.contains("does not have the file of one"), "{missing}");
    // It is there, but no network.
    place.upload(&fake);
    let junk = b"junk".to_vec();
    place.spec.networks[0].sha256 = hex(&Sha256::digest(&junk));
    fake.put(&BlobKey::File(place.spec.networks[0].sha256.clone()), junk);
    let damaged = failure(&mut joined, &place.spec).await;
    assert!(damaged.contains("one.safetensors"), "{damaged}");
    // The model is another.
    let place = Place { spec: SearchSpec { ..Place::new().spec }, ..place };
    let mut spec = place.spec.clone();
    spec.model.digest = "00".repeat(32);
    let other = failure(&mut joined, &spec).await;
    assert!(other.starts_with("tiny.safetensors is another model"), "{other}");
    for path in ["../secret", "/etc/passwd"] {
        spec.model.path = path.into();
        let outside = failure(&mut joined, &spec).await;
        assert_eq!(outside, format!("there is no model {path} below the worker's model folder"));
    }
    // After all that it still works.
    place.prepare(&mut joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_no_retry_mends_end_the_worker() {
    let place = Place::new();
    for status in [
        Status::unauthenticated("wrong token"),
        Status::permission_denied("not a worker"),
        Status::invalid_argument("hello.protocol is 2"),
    ] {
        let mut fake = Fake::start().await;
        let worker = place.worker(&fake);
        let words = status.message().to_owned();
        fake.worker().await.refuse(status).await;
        let error = worker.running.await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Refused(said) if *said == words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_comes_back_is_joined_again() {
    let place = Place::new();
    let mut fake = Fake::start().await;
    let worker = place.worker(&fake);
    fake.worker().await.refuse(Status::unavailable("stopping")).await;
    let joined = fake.worker().await;
    drop(joined);
    let address = fake.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut fake = Fake::listen(address).await;
    let _joined = fake.worker().await;
    assert!(!worker.running.is_finished());
    // One that is told to leave while it waits for a coordinator leaves at once.
    drop(_joined);
    fake.kill().await;
    worker.leave.send(()).unwrap();
    worker.running.await.unwrap().unwrap();
}
