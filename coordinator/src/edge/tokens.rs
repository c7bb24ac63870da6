//! Bearer tokens. Only their digests are kept.

use super::Error;
use crate::role::Role;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::path::Path;

/// Characters of a token, at least: fewer could be guessed.
const SHORTEST: usize = 16;
/// Characters of a token, at most: longer ones don't fit a header.
const LONGEST: usize = 1024;

/// All tokens that are good.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Vec<Token>);

#[derive(Clone, Debug)]
struct Token {
    role: Role,
    name: String,
    digest: [u8; 32],
}

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// When it can't be read, has no tokens, or one of its lines makes no sense.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { option: "--token-file", path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        warn_if_others_can_read(path);
        let mut tokens: Vec<Token> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let bad = |problem| Error::Token { path: path.to_owned(), line: at + 1, problem };
            let Some(token) = parse(line).map_err(bad)? else { continue };
            if tokens.iter().any(|other| other.digest == token.digest) {
                return Err(bad("this token is in an earlier line too: each needs its own"));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err(Error::NoTokens { path: path.to_owned() });
        }
        Ok(Self(tokens))
    }

    /// Whose token this is: role and name. Takes the same time for all.
    pub(super) fn holder(&self, token: &[u8]) -> Option<(Role, &str)> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for token in &self.0 {
            if same(&token.digest, &digest) {
                found = Some((token.role, token.name.as_str()));
            }
        }
        found
    }
}

/// A line of the file; `None` for an empty one and for a comment.
fn parse(line: &str) -> Result<Option<Token>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let parts: Vec<&str> = line.split_whitespace().collect();
    let [role, name, token] = parts[..] else {
        return Err("expected `client NAME TOKEN` or `worker NAME TOKEN`");
    };
    let role = Role::from_name(role).ok_or("the first word must be client or worker")?;
    if !(SHORTEST..=LONGEST).contains(&token.len()) {
        return Err("a token has 16 to 1024 characters; make one with: openssl rand -hex 32");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is of printable ASCII characters; make one with: openssl rand -hex 32");
    }
    Ok(Some(Token { role, name: name.to_owned(), digest: Sha256::digest(token).into() }))
}

/// Whether two digests are equal, in a time that does not depend on where they differ.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    black_box(one.iter().zip(other).fold(0, |found, (a, b)| found | (a ^ b))) == 0
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
        let path = path.display();
        tracing::warn!(%path, "others can read the token file; chmod 600 keeps it to its owner");
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::{Error, Tokens};
    use crate::role::Role;

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    fn read(text: &str) -> Result<Tokens, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Tokens::read(file.path())
    }

    #[test]
    fn a_token_says_who_its_holder_is() {
        let tokens = read(&format!("# people\nclient anna {ONE}\n\n  worker gpu-1\t{TWO}  \n")).unwrap();
        assert_eq!(tokens.holder(ONE.as_bytes()), Some((Role::Client, "anna")));
        assert_eq!(tokens.holder(TWO.as_bytes()), Some((Role::Worker, "gpu-1")));
        for wrong in ["", "anna", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert_eq!(tokens.holder(wrong.as_bytes()), None);
        }
    }

    #[test]
    fn tokens_are_not_kept() {
        assert!(!format!("{:?}", read(&format!("client anna {ONE}")).unwrap()).contains(ONE));
    }

    #[test]
    fn bad_lines_are_named_but_not_shown() {
        let good = format!("client anna {ONE}\n");
        for (line, part) in [
            ("boss anna 0123456789abcdee", "client or worker"),
            ("client 0123456789abcdee", "expected `client NAME TOKEN`"),
            ("client anna 0123456789abcdee more", "expected `client NAME TOKEN`"),
            ("client anna 0123456789abcde", "16 to 1024"),
            ("client anna 0123456789abcd\u{e9}\u{e9}", "printable ASCII"),
            ("worker gpu 0123456789abcdef", "earlier line"),
        ] {
            let error = read(&format!("{good}{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(part), "{error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
        assert!(matches!(read("# none\n"), Err(Error::NoTokens { .. })));
    }
}
