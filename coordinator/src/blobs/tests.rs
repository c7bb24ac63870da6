use super::*;
use sha2::{Digest, Sha256};

fn file_key(bytes: &[u8]) -> BlobKey {
    BlobKey::File(lora_rates_common::spec::hex(&Sha256::digest(bytes)))
}

fn encoding_key() -> BlobKey {
    BlobKey::Encoding("5e".repeat(32))
}

async fn put(blobs: &Blobs, key: &BlobKey, bytes: &[u8]) -> Result<(), Error> {
    let offset = blobs.stat(key).received;
    let mut upload = blobs.put(key.clone(), bytes.len() as u64, offset).await?.expect("it is not there");
    for chunk in bytes[offset as usize..].chunks(7) {
        upload.write(chunk.to_vec()).await?;
    }
    upload.finish().await
}

async fn get(blobs: &Blobs, key: &BlobKey, offset: u64) -> Result<Vec<u8>, Error> {
    let (mut reader, mut all) = (blobs.get(key.clone(), offset).await?, Vec::new());
    loop {
        match reader.next(5).await? {
            bytes if bytes.is_empty() => return Ok(all),
            bytes => all.extend(bytes),
        }
    }
}

#[tokio::test]
async fn what_is_put_is_got_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    let (file, encoding) = (file_key(b"a picture of a cat"), encoding_key());
    put(&blobs, &file, b"a picture of a cat").await.unwrap();
    put(&blobs, &encoding, b"moments").await.unwrap();
    put(&blobs, &file_key(b""), b"").await.unwrap();
    assert!(blobs.put(file.clone(), 18, 0).await.unwrap().is_none(), "it is there");
    drop(blobs);

    let blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    assert_eq!(blobs.stat(&file), Stat { complete: true, received: 18 });
    assert_eq!(get(&blobs, &file, 0).await.unwrap(), b"a picture of a cat");
    assert_eq!(get(&blobs, &file, 15).await.unwrap(), b"cat");
    assert_eq!(get(&blobs, &encoding, 0).await.unwrap(), b"moments");
    assert_eq!(get(&blobs, &file_key(b""), 0).await.unwrap(), b"");
    assert!(matches!(get(&blobs, &file, 19).await, Err(Error::Offset { found: 19, received: 18 })));
    assert_eq!(blobs.bytes(), 25);
    let other = BlobKey::Encoding(file.digits().to_owned());
    assert!(matches!(get(&blobs, &other, 0).await, Err(Error::NotFound(_))));
    assert_eq!(blobs.missing([(1, other), (2, file)]), [1]);
}

#[tokio::test]
async fn a_file_goes_on_where_the_transfer_broke_off_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let key = file_key(b"0123456789");
    let mut blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    for (offset, bytes) in [(0, b"012".to_vec()), (3, b"3456".to_vec())] {
        assert_eq!(blobs.stat(&key), Stat { complete: false, received: offset });
        let mut upload = blobs.put(key.clone(), 10, offset).await.unwrap().unwrap();
        upload.write(bytes).await.unwrap();
        drop(upload);
        assert!(matches!(get(&blobs, &key, 0).await, Err(Error::NotFound(_))), "half a blob is none");
        blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    }
    let wrong = blobs.put(key.clone(), 10, 5).await.err().unwrap();
    assert!(matches!(wrong, Error::Offset { found: 5, received: 7 }) && wrong.is_retryable());
    put(&blobs, &key, b"0123456789").await.unwrap();
    assert_eq!(get(&blobs, &key, 0).await.unwrap(), b"0123456789");
    assert_eq!(blobs.bytes(), 10);
}

#[tokio::test]
async fn an_encoding_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    let mut upload = blobs.put(encoding_key(), 10, 0).await.unwrap().unwrap();
    upload.write(b"012".to_vec()).await.unwrap();
    drop(upload);
    assert_eq!(blobs.stat(&encoding_key()), Stat::default());
    assert_eq!(blobs.bytes(), 0);
    put(&blobs, &encoding_key(), b"ab").await.unwrap();
    assert_eq!(get(&blobs, &encoding_key(), 0).await.unwrap(), b"ab");
}

#[tokio::test]
async fn bytes_that_are_not_what_their_name_says_are_refused() {
    let blobs = Blobs::temporary(Options::default()).unwrap();
    let key = file_key(b"right");
    let error = put(&blobs, &key, b"wrong").await.unwrap_err();
    assert!(matches!(error, Error::Digest { resumed: false, .. }) && !error.is_retryable(), "{error}");
    assert_eq!((blobs.stat(&key), blobs.bytes()), (Stat::default(), 0));
    // A damaged beginning is found at the end, and the next attempt begins anew.
    let mut upload = blobs.put(key.clone(), 5, 0).await.unwrap().unwrap();
    upload.write(b"wr".to_vec()).await.unwrap();
    drop(upload);
    let error = put(&blobs, &key, b"right").await.unwrap_err();
    assert!(matches!(error, Error::Digest { resumed: true, .. }) && error.is_retryable(), "{error}");
    put(&blobs, &key, b"right").await.unwrap();
}

#[tokio::test]
async fn a_blob_has_as_many_bytes_as_was_said() {
    let blobs = Blobs::temporary(Options::default()).unwrap();
    let key = file_key(b"right");
    let mut upload = blobs.put(key.clone(), 3, 0).await.unwrap().unwrap();
    let many = upload.write(b"right".to_vec()).await.unwrap_err();
    assert!(matches!(many, Error::Size { found: 5, expected: 3 }));
    drop(upload);
    let upload = blobs.put(key.clone(), 3, 0).await.unwrap().unwrap();
    assert!(matches!(upload.finish().await, Err(Error::Size { found: 0, expected: 3 })));
}

#[tokio::test]
async fn limits_hold_and_count_what_is_on_its_way() {
    let blobs = Blobs::temporary(Options { max_blob: 8, max_bytes: 10, ..Options::default() }).unwrap();
    let large = blobs.put(file_key(b"x"), 9, 0).await.err().unwrap();
    assert!(matches!(large, Error::TooLarge { size: 9, limit: 8 }), "{large}");
    let upload = blobs.put(encoding_key(), 7, 0).await.unwrap().unwrap();
    assert_eq!(blobs.bytes(), 7);
    let full = blobs.put(file_key(b"abcd"), 4, 0).await.err().unwrap();
    assert!(matches!(full, Error::Quota { size: 4, free: 3, limit: 10 }), "{full}");
    drop(upload);
    put(&blobs, &file_key(b"abcd"), b"abcd").await.unwrap();
    assert_eq!(blobs.bytes(), 4);
}

#[tokio::test]
async fn one_sender_at_a_time_and_one_that_has_fallen_silent_gives_way() {
    let blobs =
        Blobs::temporary(Options { inline: true, patience: Duration::from_millis(200), ..Options::default() }).unwrap();
    let key = file_key(b"0123456789");
    let mut first = blobs.put(key.clone(), 10, 0).await.unwrap().unwrap();
    first.write(b"01".to_vec()).await.unwrap();
    let second = blobs.put(key.clone(), 10, 2).await.err().unwrap();
    assert!(matches!(second, Error::InUse(_)) && second.is_retryable());
    tokio::time::sleep(Duration::from_millis(250)).await;
    put(&blobs, &key, b"0123456789").await.unwrap();
    assert!(matches!(first.write(b"2".to_vec()).await, Err(Error::InUse(_))));
    drop(first);
    assert_eq!(blobs.stat(&key), Stat { complete: true, received: 10 });
    assert_eq!(blobs.bytes(), 10);
}

#[tokio::test]
async fn uploads_wait_for_their_turn_and_are_refused_in_the_end() {
    let blobs =
        Blobs::temporary(Options { max_uploads: 1, patience: Duration::from_millis(200), ..Options::default() })
            .unwrap();
    let first = blobs.put(encoding_key(), 10, 0).await.unwrap().unwrap();
    let key = file_key(b"x");
    let waiting = put(&blobs, &key, b"x");
    let done = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(first);
    };
    tokio::join!(waiting, done).0.unwrap();
    let _first = blobs.put(encoding_key(), 10, 0).await.unwrap().unwrap();
    let refused = put(&blobs, &file_key(b"y"), b"y").await.unwrap_err();
    assert!(matches!(refused, Error::Busy) && refused.is_retryable());
}

#[tokio::test]
async fn what_is_removed_is_gone_and_can_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    let key = file_key(b"abc");
    put(&blobs, &key, b"abc").await.unwrap();
    let removal = blobs.remove(vec![key.clone(), encoding_key()]);
    assert!(!blobs.has(&key));
    assert!(matches!(put(&blobs, &key, b"abc").await, Err(Error::InUse(_))), "its file is being deleted");
    removal.finish().await.unwrap();
    assert_eq!(blobs.bytes(), 0);
    assert!(!Blobs::open(folder.path(), Options::default()).unwrap().has(&key));
    put(&blobs, &key, b"abc").await.unwrap();
}

#[tokio::test]
async fn files_of_others_are_left_alone_and_old_parts_of_encodings_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("encodings/5e");
    std::fs::create_dir_all(&within).unwrap();
    std::fs::write(within.join("notes.txt"), "mine").unwrap();
    std::fs::write(folder.path().join("encodings/readme"), "mine").unwrap();
    let part = within.join(format!("{}.part", encoding_key().digits()));
    std::fs::write(&part, "half").unwrap();
    let blobs = Blobs::open(folder.path(), Options::default()).unwrap();
    assert_eq!(blobs.bytes(), 0);
    assert!(!part.exists() && within.join("notes.txt").exists());
}
