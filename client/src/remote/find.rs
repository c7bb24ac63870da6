//! Searches by the beginning of their identifier.

use super::{Error, Remote};
use lora_rates_common::convert::SearchStatus;

/// Most identifiers that an error names.
const MAX_NAMED: usize = 4;

impl Remote {
    /// The one search whose identifier is this or begins with it.
    ///
    /// # Errors
    /// There is none, or more than one; and those of [`Self::get`].
    pub(crate) async fn find(&self, prefix: &str) -> Result<SearchStatus, Error> {
        if prefix.is_empty() {
            return Err(Error::Unknown(String::new()));
        }
        match self.get(prefix).await {
            Err(error) if error.is_not_found() => only(prefix, self.list(&[]).await?),
            found => found,
        }
    }
}

/// The only search of those whose identifier begins so.
fn only(prefix: &str, searches: Vec<SearchStatus>) -> Result<SearchStatus, Error> {
    let mut found: Vec<SearchStatus> =
        searches.into_iter().filter(|search| search.search_id.starts_with(prefix)).collect();
    match found.pop() {
        None => Err(Error::Unknown(prefix.to_owned())),
        Some(search) if found.is_empty() => Ok(search),
        Some(search) => {
            found.push(search);
            let mut ids: Vec<String> = found.iter().take(MAX_NAMED).map(|search| search.search_id.clone()).collect();
            if found.len() > MAX_NAMED {
                ids.push("...".to_owned());
            }
            Err(Error::Ambiguous { prefix: prefix.to_owned(), ids })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lora_rates_common::convert::SearchState;

    fn search(id: &str) -> SearchStatus {
        SearchStatus {
            search_id: id.to_owned(),
            state: SearchState::Running,
            step: 0,
            max_train_steps: 1,
            rates: Vec::new(),
            failure: None,
            name: String::new(),
            workers: 0,
            created_ms: 0,
            networks: Vec::new(),
            best: None,
            conclusion: None,
        }
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        let all = || ["abc1", "abd2", "ff"].map(search).to_vec();
        assert_eq!(only("f", all()).unwrap().search_id, "ff");
        assert_eq!(only("abc", all()).unwrap().search_id, "abc1");
        let several = only("ab", all()).unwrap_err().to_string();
        assert!(several.contains("abc1, abd2"), "{several}");
        assert!(only("x", all()).unwrap_err().to_string().contains("lora-rates list"));
        let many = (0..9).map(|number| search(&format!("a{number}"))).collect();
        assert!(only("a", many).unwrap_err().to_string().contains("a3, ...;"));
    }
}
