//! Tokens of pages: where the next one begins. What is in them is nobody's business but the coordinator's.

use super::status::bad_field;
use lora_rates_common::convert::{MAX_PAGE, MAX_TOKEN};
use tonic::Status;

/// Entries of a page whose size the client leaves open.
const USUAL: usize = 100;

/// How many entries a page may have.
pub(super) fn size(page_size: u32) -> usize {
    match page_size {
        0 => USUAL,
        size => size.min(MAX_PAGE) as usize,
    }
}

/// The token of the page after this entry.
pub(super) fn token(last: u64) -> String {
    format!("p{last:x}")
}

/// The entry after which a page begins.
pub(super) fn after(token: &str) -> Result<u64, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    let digits = token.strip_prefix('p').filter(|_| token.len() <= MAX_TOKEN);
    let after = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    after.ok_or_else(|| {
        bad_field("page_token", "page_token is none that the coordinator gave; leave it out to begin at the first page")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_where_it_came_from_and_others_are_refused() {
        for last in [0, 1, 300, u64::MAX] {
            assert_eq!(after(&token(last)).unwrap(), last);
        }
        assert_eq!(after("").unwrap(), 0);
        for wrong in ["1", "p", "px", "p-1", "p10000000000000000", &"p0".repeat(99)] {
            assert!(after(wrong).is_err(), "{wrong}");
        }
        assert_eq!([size(0), size(7), size(u32::MAX)], [100, 7, 1000]);
    }
}
