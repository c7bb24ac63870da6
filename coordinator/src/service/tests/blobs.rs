use super::fake::{Running, refused, start};
use super::in_folder;
use crate::Options;
use crate::store::Store;
use crate::testing::spec;
use lora_rates_common::convert::{BlobKey, SamplePicture};
use lora_rates_common::spec::{SearchSpec, hex};
use lora_rates_proto::connect::{Access, connect};
use lora_rates_proto::transfer::Blobs;
use lora_rates_proto::v1::{
    self, BlobStart, CancelSearchRequest, DeleteSearchRequest, PutBlobRequest, StatBlobRequest,
    blob_service_client::BlobServiceClient, put_blob_request::Part,
};
use sha2::{Digest, Sha256};
use std::path::Path;
use tonic::Code;
use tonic_types::StatusExt;

fn file_key(bytes: &[u8]) -> BlobKey {
    BlobKey::File(hex(&Sha256::digest(bytes)))
}

async fn blobs(running: &Running) -> Blobs {
    Blobs::new(connect(&running.address, &Access::default()).await.unwrap())
}

async fn has(blobs: &mut Blobs, key: &BlobKey) -> bool {
    blobs.has(&key.into()).await.unwrap()
}

fn service(folder: &Path) -> Options {
    Options { trusted: false, ..in_folder(folder) }
}

/// A search whose files are those of these contents.
fn of_files(networks: [&[u8]; 2], picture: &[u8]) -> SearchSpec {
    let mut spec = spec();
    for (network, content) in spec.networks.iter_mut().zip(networks) {
        network.sha256 = file_key(content).digits().to_owned();
    }
    for image in &mut spec.images {
        image.sha256 = file_key(picture).digits().to_owned();
    }
    spec
}

#[tokio::test]
async fn blobs_come_and_go_in_chunks_and_a_broken_transfer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(service(folder.path())).await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(at) % 251) as u8).collect();
    let key: v1::BlobKey = (&file_key(&content)).into();
    let mut raw = BlobServiceClient::connect(running.address.clone()).await.unwrap();
    let start_at = |offset| Part::Start(BlobStart { blob: Some(key.clone()), size: content.len() as u64, offset });
    let put = |parts: Vec<Part>| {
        tokio_stream::iter(parts.into_iter().map(|part| PutBlobRequest { part: Some(part) }).collect::<Vec<_>>())
    };
    let half = raw.put_blob(put(vec![start_at(0), Part::Chunk(content[..1_000_000].to_vec())])).await;
    refused(half, Code::InvalidArgument, "was to have 3000000 bytes, and has 1000000");
    let stat = raw.stat_blob(StatBlobRequest { blob: Some(key.clone()) }).await.unwrap().into_inner();
    assert_eq!((stat.complete, stat.received), (false, 1_000_000));
    let wrong = raw.put_blob(put(vec![start_at(7)])).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.get_details_error_info().unwrap().reason), (Code::Aborted, "WRONG_OFFSET".into()));
    let large = put(vec![start_at(1_000_000), Part::Chunk(vec![0; (1 << 20) + 1])]);
    refused(raw.put_blob(large).await, Code::InvalidArgument, "chunk has 1048577 bytes");

    let mut blobs = blobs(&running).await;
    blobs.put_bytes(&key, &content).await.unwrap();
    assert_eq!(blobs.get_bytes(&key, content.len()).await.unwrap().unwrap(), content);
    let path = folder.path().join("copy");
    blobs.get_file(&key, &path).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let nobody: v1::BlobKey = (&file_key(b"nobody")).into();
    assert_eq!(blobs.get_bytes(&nobody, 9).await.unwrap(), None);
    let escape = v1::BlobKey { kind: 1, key: "../../../etc/passwd".into() };
    let request = StatBlobRequest { blob: Some(escape) };
    refused(raw.stat_blob(request).await, Code::InvalidArgument, "blob.key");
}

#[tokio::test]
async fn a_service_refuses_searches_whose_files_are_missing_and_paths_that_lead_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(service(folder.path())).await;
    let spec = of_files([b"net 1", b"net 2"], b"picture");
    let status = running.try_create("r", &spec).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("9 of the search's files are not there, the first is first ("), "{status}");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!((violations[0].r#type.as_str(), &violations[0].subject), ("BLOB", &spec.networks[0].sha256));
    let mut blobs = blobs(&running).await;
    for content in [&b"net 1"[..], b"net 2", b"picture"] {
        blobs.put_bytes(&(&file_key(content)).into(), content).await.unwrap();
    }
    for (path, vae) in [("/etc/passwd", None), ("a/../../b", None), ("model", Some("../vae"))] {
        let mut spec = spec.clone();
        (spec.model.path, spec.model.vae) = (path.into(), vae.map(Into::into));
        refused(running.try_create("r", &spec).await, Code::InvalidArgument, "spec.model.");
    }
    let mut elsewhere = spec.clone();
    elsewhere.options.cache_dir = Some("/tmp/cache".into());
    refused(running.try_create("r", &elsewhere).await, Code::InvalidArgument, "spec.options.cache_dir");
    running.create("r", &spec).await;
}

#[tokio::test]
async fn blobs_are_kept_as_long_as_a_search_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(service(folder.path())).await;
    let mut blobs = blobs(&running).await;
    let contents = [&b"net 1"[..], b"net 2", b"net 3", b"picture"];
    let [one, two, three, picture] = contents.map(file_key);
    for content in contents {
        blobs.put_bytes(&(&file_key(content)).into(), content).await.unwrap();
    }
    let first = of_files([contents[0], contents[1]], b"picture");
    let encoding = BlobKey::Encoding(first.encoding_key(0, false).unwrap());
    blobs.put_bytes(&(&encoding).into(), b"moments").await.unwrap();
    let second = of_files([contents[1], contents[2]], b"picture");
    let ids = [running.create("1", &first).await, running.create("2", &second).await];
    for id in &ids {
        running.client.cancel_search(CancelSearchRequest { search_id: id.clone() }).await.unwrap();
    }
    running.client.delete_search(DeleteSearchRequest { search_id: ids[0].clone() }).await.unwrap();
    assert!(!has(&mut blobs, &one).await, "nobody else needs it");
    for key in [&two, &three, &picture, &encoding] {
        assert!(has(&mut blobs, key).await, "the other search needs it");
    }
    running.client.delete_search(DeleteSearchRequest { search_id: ids[1].clone() }).await.unwrap();
    for key in [&two, &three, &picture, &encoding] {
        assert!(!has(&mut blobs, key).await);
    }
    assert_eq!(running.handle.blobs().bytes(), 0);
}

#[tokio::test]
async fn blobs_have_limits() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(Options { max_blob_bytes: 10, ..service(folder.path()) }).await;
    let mut raw = BlobServiceClient::connect(running.address.clone()).await.unwrap();
    let mut start_of = async |size| {
        let blob = Some((&file_key(b"x")).into());
        let part = Some(Part::Start(BlobStart { blob, size, offset: 0 }));
        raw.put_blob(tokio_stream::iter([PutBlobRequest { part }])).await.unwrap_err()
    };
    let reason = |status: tonic::Status| (status.code(), status.get_details_error_info().unwrap().reason);
    assert_eq!(reason(start_of(11).await), (Code::ResourceExhausted, "BLOBS_FULL".into()));
    assert_eq!(reason(start_of(u64::MAX).await), (Code::ResourceExhausted, "BLOB_TOO_LARGE".into()));
    assert_eq!(reason(start_of(10).await), (Code::InvalidArgument, "WRONG_SIZE".into()));
}

#[tokio::test]
async fn files_that_no_search_needs_are_removed_after_a_week_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let contents: [&[u8]; 4] = [b"network 1", b"network 2", b"picture", b"uploaded for nothing"];
    let [.., old] = contents;
    let young: &[u8] = b"uploaded just now";
    let mut running = start(service(folder.path())).await;
    let mut there = blobs(&running).await;
    for content in contents.into_iter().chain([young]) {
        there.put_bytes(&(&file_key(content)).into(), content).await.unwrap();
    }
    running.create("r", &of_files([contents[0], contents[1]], contents[2])).await;
    running.stop().await;
    let week = std::time::Duration::from_secs(8 * 24 * 60 * 60);
    for content in contents {
        let digits = file_key(content).digits().to_owned();
        let path = folder.path().join("blobs/files").join(&digits[..2]).join(&digits);
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - week).unwrap();
    }
    let running = start(service(folder.path())).await;
    let mut there = blobs(&running).await;
    for content in contents.into_iter().chain([young]) {
        assert_eq!(has(&mut there, &file_key(content)).await, content != old);
    }
    // What was removed can be sent again.
    there.put_bytes(&(&file_key(old)).into(), old).await.unwrap();
}

#[tokio::test]
async fn sample_pictures_stay_as_long_as_their_search() {
    let folder = tempfile::tempdir().unwrap();
    let contents: [&[u8]; 3] = [b"network 1", b"network 2", b"picture"];
    let sampled: &[u8] = b"sample picture";
    let mut running = start(service(folder.path())).await;
    let mut there = blobs(&running).await;
    for content in contents.into_iter().chain([sampled]) {
        there.put_bytes(&(&file_key(content)).into(), content).await.unwrap();
    }
    let id = running.create("r", &of_files([contents[0], contents[1]], contents[2])).await;
    running.client.cancel_search(CancelSearchRequest { search_id: id.clone() }).await.unwrap();
    running.stop().await;
    let digits = file_key(sampled).digits().to_owned();
    let path = folder.path().join("blobs/files").join(&digits[..2]).join(&digits);
    let week = std::time::Duration::from_secs(8 * 24 * 60 * 60);
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - week).unwrap();
    let picture = SamplePicture { step: 0, item: 0, seed: 1, result: Ok(digits) };
    Store::open(folder.path()).unwrap().add_pictures(&id, &[picture]).unwrap();

    let mut running = start(service(folder.path())).await;
    let mut there = blobs(&running).await;
    assert!(has(&mut there, &file_key(sampled)).await);
    running.client.delete_search(DeleteSearchRequest { search_id: id }).await.unwrap();
    for content in contents.into_iter().chain([sampled]) {
        assert!(!has(&mut there, &file_key(content)).await);
    }
}
