//! Options that make no sense are refused at the start, in one clear line.

use crate::authority::Authority;
use crate::process::{Process, fails, text};
use std::net::TcpListener;

/// The last line, which is all that there should be besides warnings.
#[track_caller]
fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "none"];
    // What is given twice would be an error of its own.
    let mut all: Vec<&str> = if arguments.contains(&"--listen") { ports[2..].to_vec() } else { ports.to_vec() };
    all.extend(arguments);
    let (found, said) = fails(&all);
    assert_eq!(found, code, "{arguments:?}: {said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("ERROR") || line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{arguments:?}: one line: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: no {part:?} in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn half_an_identity_is_refused() {
    refused(&["--tls-cert", "c.pem"], 1, &["--tls-cert and --tls-key go together"]);
    refused(&["--tls-key", "k.pem"], 1, &["--tls-cert and --tls-key go together"]);
    refused(&["--tls-client-ca", "ca.pem"], 1, &["--tls-client-ca needs --tls-cert and --tls-key"]);
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let (server, other) = (authority.server("localhost"), authority.member("client"));
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "this is no certificate").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
    let missing = folder.path().join("missing.pem");
    let tls = |cert, key| vec!["--tls-cert", text(cert), "--tls-key", text(key)];
    refused(&tls(&missing, &server.key), 1, &["--tls-cert: can't read", "missing.pem", "No such file"]);
    refused(&tls(&server.cert, &missing), 1, &["--tls-key: can't read", "missing.pem"]);
    refused(&tls(&garbage, &server.key), 1, &["--tls-cert:", "garbage.pem holds no certificate"]);
    refused(&tls(&broken, &server.key), 1, &["--tls-cert:", "broken.pem holds no legible certificate"]);
    refused(&tls(&server.cert, &server.cert), 1, &["--tls-key:", "holds no private key"]);
    refused(&tls(&server.cert, &other.key), 1, &["TLS can't be set up with these certificates and this key"]);
    refused(&tls(folder.path(), &server.key), 1, &["--tls-cert: can't read"]);
    let with_ca = |ca| [tls(&server.cert, &server.key), vec!["--tls-client-ca", ca]].concat();
    refused(&with_ca(text(&garbage)), 1, &["--tls-client-ca:", "holds no certificate"]);
}

#[test]
fn token_files_that_make_no_sense_are_refused_without_showing_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let cases = [
        ("", "holds no token"),
        ("client anna short", "line 1: a token has 16 to 1024"),
        ("# fine\n\nadmin anna 0123456789abcdef", "line 3: the first word must be client or worker"),
        ("client 0123456789abcdef", "line 1: expected `client NAME TOKEN`"),
        ("client a 0123456789abcdef\nworker b 0123456789abcdef", "line 2: this token is in an earlier line"),
    ];
    for (content, part) in cases {
        std::fs::write(&path, content).unwrap();
        refused(&["--token-file", text(&path)], 1, &["--token-file:", part]);
        assert!(
            !fails(&["--listen", "127.0.0.1:0", "--admin-listen", "none", "--token-file", text(&path)])
                .1
                .contains("0123456789abcdef")
        );
    }
    std::fs::remove_file(&path).unwrap();
    refused(&["--token-file", text(&path)], 1, &["--token-file: can't read"]);
}

#[test]
fn addresses_that_others_can_reach_must_be_protected() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "client anna 0123456789abcdef").unwrap();
    let server = Authority::new(folder.path(), "ca").server("localhost");
    let tls = ["--tls-cert", text(&server.cert), "--tls-key", text(&server.key)];
    let open = ["--listen", "0.0.0.0:0"];
    refused(&open, 1, &["nothing is encrypted", "--insecure"]);
    let with_tokens = [&open[..], &["--token-file", text(&tokens)]].concat();
    refused(&with_tokens, 1, &["nothing is encrypted, tokens included"]);
    refused(&[&open[..], &tls].concat(), 1, &["nobody is asked who they are"]);
    for enough in [vec!["--insecure"], [&tls[..], &["--token-file", text(&tokens)]].concat()] {
        drop(Process::start_at(&[&open[..], &["--admin-listen", "none"], &enough].concat()));
    }
}

#[test]
fn ports_and_folders_that_can_not_be_used_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&["--listen", &address], 1, &["--listen: can't listen on", &address]);
    let (code, said) = fails(&["--listen", "127.0.0.1:0", "--admin-listen", &address]);
    assert!(code == 1 && said.contains("--admin-listen: can't listen on"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(&["--data-dir", text(&file)], 1, &[text(&file)]);
}

#[test]
fn values_out_of_range_are_usage_errors() {
    refused(&["--listen", "localhost"], 2, &["--listen"]);
    refused(&["--silence", "0"], 2, &["--silence", "at least 1"]);
    refused(&["--silence", "inf"], 2, &["--silence"]);
    refused(&["--max-connections", "0"], 2, &["--max-connections"]);
    refused(&["--max-streams=-1"], 2, &["--max-streams"]);
    refused(&["--worker-timeout", "0.5"], 2, &["--worker-timeout", "at least 1"]);
    refused(&["--max-searches", "many"], 2, &["--max-searches"]);
    refused(&["--max-blob-bytes", "-5"], 2, &["error:"]);
    refused(&["--no-such-option"], 2, &["--no-such-option"]);
}
