use super::*;
use lora_rates_common::spec::hex;
use lora_rates_common::tensor_file::{NewTensor, write};
use sha2::{Digest, Sha256};

fn aged(path: &Path, age: Duration) {
    fs::write(path, "x").unwrap();
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn network(folder: &Path) -> (PathBuf, String) {
    let path = folder.join("a.safetensors");
    write(&path, &[NewTensor::from_f32("x", &[2], &[1.0, 2.0])], &Default::default()).unwrap();
    let sha256 = hex(&Sha256::digest(fs::read(&path).unwrap()));
    (path, sha256)
}

#[test]
fn what_was_not_used_for_thirty_days_goes_when_the_folder_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let networks = folder.path().join("networks");
    fs::create_dir(&networks).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let (old, part, new) = ("old.safetensors", "old.part", "new.safetensors");
    aged(&networks.join(old), 31 * day);
    aged(&networks.join(part), 31 * day);
    aged(&networks.join(new), 29 * day);
    aged(&networks.join("mine.txt"), 99 * day);
    BlobCache::open(folder.path()).unwrap();
    assert!(!networks.join(old).exists() && !networks.join(part).exists());
    assert!(networks.join(new).exists() && networks.join("mine.txt").exists());
}

#[tokio::test]
async fn files_are_there_only_when_they_are_what_their_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = BlobCache::open(folder.path()).unwrap();
    let (path, sha256) = network(folder.path());
    let wanted = [(sha256.clone(), "a".to_owned()), ("ab".repeat(32), "b".to_owned())];
    assert_eq!(cache.missing(&wanted).await, wanted);
    fs::copy(&path, cache.path(&sha256)).unwrap();
    assert_eq!(cache.missing(&wanted).await, wanted[1..]);
    // A damaged file is removed, so that it is fetched again.
    let other = cache.path(&wanted[1].0);
    fs::copy(&path, &other).unwrap();
    assert_eq!(cache.missing(&wanted).await, wanted[1..]);
    assert!(!other.exists());
}

#[tokio::test]
async fn a_file_that_is_used_counts_as_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = BlobCache::open(folder.path()).unwrap();
    let (path, sha256) = network(folder.path());
    fs::copy(&path, cache.path(&sha256)).unwrap();
    let age = |path: &Path| fs::metadata(path).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    let file = File::options().append(true).open(cache.path(&sha256)).unwrap();
    file.set_modified(SystemTime::now() - KEEP / 2).unwrap();
    assert!(cache.missing(&[(sha256.clone(), "a".to_owned())]).await.is_empty());
    assert!(age(&cache.path(&sha256)) < Duration::from_secs(60));
}

#[tokio::test]
async fn one_process_fetches_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(folder.path()).unwrap();
    let held = cache.lock().await.unwrap();
    let other = BlobCache::open(folder.path()).unwrap();
    assert!(tokio::time::timeout(3 * LOOK, other.lock()).await.is_err());
    drop(held);
    assert!(tokio::time::timeout(3 * LOOK, other.lock()).await.unwrap().is_ok());
}
