//! Keys of blobs, both ways.

use super::check::{required, sha256};
use super::{BlobKey, Error};
use lora_rates_proto::v1;

impl From<&BlobKey> for v1::BlobKey {
    fn from(key: &BlobKey) -> Self {
        let kind = match key {
            BlobKey::File(_) => v1::BlobKind::File,
            BlobKey::Encoding(_) => v1::BlobKind::Encoding,
        };
        Self { kind: kind.into(), key: key.digits().to_owned() }
    }
}

/// The blob that a request names.
///
/// # Errors
/// When it names none, of no known kind, or by something that is no digest.
pub fn blob_key(key: Option<v1::BlobKey>) -> Result<BlobKey, Error> {
    let v1::BlobKey { kind, key } = required("blob", key)?;
    let of_kind = match v1::BlobKind::try_from(kind) {
        Ok(v1::BlobKind::File) => BlobKey::File,
        Ok(v1::BlobKind::Encoding) => BlobKey::Encoding,
        Ok(v1::BlobKind::Unspecified) | Err(_) => {
            return Err(Error::range("blob.kind", kind, "1 (file) or 2 (encoding)"));
        }
    };
    Ok(of_kind(sha256("blob.key", key)?))
}
