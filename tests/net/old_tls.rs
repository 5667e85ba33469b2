//! Servers of yesterday, played by openssl. Each is first talked to by openssl's own client, so that it is known to speak what it
//! is said to speak.

use std::path::Path;
use std::process::{Command, Stdio};

use ewsnotify::ErrorKind;

use crate::asks::get;
use crate::server::*;
use crate::tls::Authority;
use crate::tools::Daemon;

/// `openssl s_server` with these flags.
fn server(authority: &Authority, flags: &[&str]) -> Option<Daemon> {
    Daemon::start("openssl", |command, dir, port| {
        // RSA, which the suites of old servers want.
        let (cert, key) = authority.issue_rsa(dir);
        command.args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-quiet"]);
        command.arg("-cert").arg(cert).arg("-key").arg(key).args(flags);
    })
}

/// What openssl's client agrees on with it: the protocol and the suite.
fn control(server: &Daemon, flags: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", server.port)]).args(flags);
    let out = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

// Exchange 2010 and 2013 on old systems: it must be known at once that no setting of ours helps, and what does.
#[test]
fn what_is_not_spoken_is_refused_in_words() {
    let authority = Authority::new();
    let old = "ALL:@SECLEVEL=0";
    let cbc = "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:AES128-SHA:@SECLEVEL=0";
    for (flags, agreed) in [
        (&["-tls1", "-cipher", old][..], "Protocol  : TLSv1\n"),
        (&["-tls1_1", "-cipher", old], "Protocol  : TLSv1.1\n"),
        (&["-tls1_2", "-cipher", cbc], "Cipher    : ECDHE-RSA-AES128-SHA256\n"),
    ] {
        let Some(server) = server(&authority, flags) else { return };
        let said = control(&server, flags);
        assert!(said.contains(agreed), "openssl speaks with it: {said}");
        let client = Client::new(&format!("https://127.0.0.1:{}", server.port), authority.config());
        let e = client.call().unwrap_err();
        assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Tls, false), "{e}");
        let words =
            ["broke the handshake off", "before TLS 1.2", "CBC", "ECDSA certificate", "reverse proxy"];
        assert!(words.iter().all(|w| e.to_string().contains(w)), "{flags:?}: {e}");
    }
}

// The same openssl with what is spoken, so that the refusals above are the versions' and suites' doing.
#[test]
fn tls_1_2_alone_is_enough() {
    let authority = Authority::new();
    let flags = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    let Some(server) = server(&authority, &flags) else { return };
    let told = get(&format!("https://127.0.0.1:{}", server.port), authority.config()).unwrap();
    let session = told.session.unwrap();
    assert_eq!((told.status, session.version), (200, "TLS 1.2"));
    assert_eq!(session.suite, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
}

impl Authority {
    /// A certificate for 127.0.0.1 with an RSA key, which openssl makes: `ring` does not.
    fn issue_rsa(&self, dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let (key, cert) = (dir.join("rsa.pem"), dir.join("rsa-cert.pem"));
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])
            .arg(&key)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let pem = std::fs::read_to_string(&key).unwrap();
        let pair = rcgen::KeyPair::from_pem(&pem).unwrap();
        std::fs::write(&cert, self.sign("127.0.0.1", &pair, |_| ()).pem()).unwrap();
        (cert, key)
    }
}
