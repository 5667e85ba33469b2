//! TLS: whom to trust, what to say when not, and the same calls and streams through it.

use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ewsnotify::ErrorKind;
use ewsnotify::net::{Config, Pin, Tls, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::server::*;

/// An authority of a test's own, with its certificate in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {}", fastrand::u64(..)));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    pub fn config(&self) -> Config {
        Config { ca_file: Some(self.file.path().to_owned()), ..config() }
    }

    pub fn server_config(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        self.issue(name, change).server_config(versions, WebPkiClientVerifier::no_client_auth())
    }

    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued { cert: self.sign(name, &key, change), key }
    }

    pub fn sign(
        &self,
        name: &str,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap()
    }

    /// Accepts clients with a certificate of this authority, and no other.
    fn of_clients(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(self.file.path()).unwrap() {
            roots.add(cert.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
    }
}

/// A certificate and its key.
pub struct Issued {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Issued {
    pub fn pin(&self) -> Pin {
        Pin::of(self.cert.der())
    }

    /// `cert.pem` and `key.pem` in a folder.
    pub fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, self.cert.pem()).unwrap();
        std::fs::write(&key, self.key.serialize_pem()).unwrap();
        (cert, key)
    }

    fn server_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![self.cert.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

type TlsStream = StreamOwned<ServerConnection, TcpStream>;

fn serve(config: Arc<ServerConfig>, serve: impl Fn(TlsStream) + Send + Sync + 'static) -> Server {
    Server::start(move |stream, _| {
        serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream));
    })
}

pub fn answering(config: Arc<ServerConfig>) -> Server {
    answering_with(config, |_, _| ok(ENVELOPE))
}

/// The answer to each request of a connection, by its head and its number from 0.
pub fn answering_with(
    config: Arc<ServerConfig>,
    answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static,
) -> Server {
    serve(config, move |mut stream| {
        let mut n = 0;
        while let Some((head, _)) = read_request(&mut stream) {
            if stream.write_all(&answer(&head, n)).is_err() {
                return;
            }
            n += 1;
        }
        // What lies unread when a socket is closed takes away what was said last.
        let _ = io::copy(&mut stream.sock, &mut io::sink());
    })
}

pub fn https(server: &Server) -> String {
    server.url().replace("http:", "https:")
}

// A company's own authority, which is how most Exchange servers are set up.
#[test]
fn calls_and_streams_go_through_both_versions() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = authority.server_config("127.0.0.1", |_| (), &[version]);
        let server = answering(config.clone());
        let client = Client::new(&https(&server), authority.config());
        for _ in 0..5 {
            assert_eq!(client.call().unwrap().body, ENVELOPE.as_bytes());
        }
        assert_eq!(server.accepted(), 1, "kept alive, session tickets or not");
        let server = serve(config, |mut stream| {
            read_request(&mut stream).unwrap();
            stream.write_all(CHUNKED_HEAD).unwrap();
            for n in 1..200 {
                stream.write_all(&chunk(&format!("<e>{n}</e>").repeat(n))).unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        });
        let client = Client::new(&https(&server), authority.config());
        let (all, error) = read_all(&mut *client.stream());
        assert!(error.is_none(), "{error:?}");
        let expected: String = (1..200).map(|n| format!("<e>{n}</e>").repeat(n)).collect();
        assert!(all == expected.as_bytes());
        assert_eq!(client.counters.sockets_open(), 0);
    }
}

// A truncated stream must not look like an ended one: somebody on the way could cut events off unseen.
#[test]
fn an_end_without_farewell_is_an_error() {
    let authority = Authority::new();
    let server = serve(authority.server_config("127.0.0.1", |_| (), rustls::ALL_VERSIONS), |mut stream| {
        read_request(&mut stream).unwrap();
        // No length, no chunks: only the farewell tells the end.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n<x>").unwrap();
    });
    let client = Client::new(&https(&server), authority.config());
    let (_, error) = read_all(&mut *client.stream());
    assert_eq!(error.unwrap().kind(), ErrorKind::Io);
}

// What a user sees first when something is wrong with a certificate: it has to say what to do.
#[test]
fn certificates_that_are_wrong_are_told_with_what_to_do() {
    let (ours, other) = (Authority::new(), Authority::new());
    let all = rustls::ALL_VERSIONS;
    let expired = |p: &mut CertificateParams| {
        p.not_before = date_time_ymd(2000, 1, 1);
        p.not_after = date_time_ymd(2001, 1, 1);
    };
    let future = |p: &mut CertificateParams| p.not_before = date_time_ymd(3000, 1, 1);
    for (config, words) in [
        (
            ours.server_config("mail.example.test", |_| (), all),
            ["mail.example.test", "use a name that is in"],
        ),
        (other.server_config("127.0.0.1", |_| (), all), ["does not know", "as ca_file"]),
        (ours.server_config("127.0.0.1", expired, all), ["has expired", "clock"]),
        (ours.server_config("127.0.0.1", future, all), ["not valid yet", "clock"]),
    ] {
        let server = answering(config);
        let client = Client::new(&https(&server), ours.config());
        for e in [client.call().unwrap_err(), client.open().map(|_| ()).unwrap_err()] {
            assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Tls, false), "{e}");
            assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
        }
        assert_eq!(client.counters.sockets_open(), 0);
    }
}

// The commonest typing error in a url, in both directions.
#[test]
fn http_and_https_mixed_up() {
    let server = Server::start(|mut stream, _| {
        let _ = io::Read::read(&mut stream, &mut [0; 10]);
        let _ = stream.write_all(&answer("400 Bad Request", "", "this is no TLS"));
        while io::Read::read(&mut stream, &mut [0; 1000]).is_ok_and(|n| n > 0) {}
    });
    let e = Client::new(&https(&server), config()).call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.to_string().contains("plain http"), "{e}");
    // The other way round: a TLS server answers what is no TLS with an alert, a proxy perhaps with words.
    let server = Server::start(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]);
    });
    let e = Client::new(&server.url(), config()).call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.to_string().contains("must begin with https"), "{e}");
    let server = Server::answering(answer("400 Bad Request", "", ""));
    let e = Client::new(&server.url(), config()).call().unwrap_err();
    assert!(e.to_string().contains("must begin with https"), "{e}");
    // Closed in the handshake: a balancer without a server behind it does this. It may pass.
    let server = Server::start(|mut stream, _| drop(io::Read::read(&mut stream, &mut [0; 10])));
    let e = Client::new(&https(&server), config()).call().unwrap_err();
    assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Connect, true), "{e}");
}

// A typing error in a path, found when the program starts and not at night.
#[test]
fn a_bad_ca_file_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for (path, word) in [
        (dir.path().join("missing.pem"), "cannot be read"),
        (write("empty.pem", ""), "no certificate"),
        (write("key.pem", &KeyPair::generate().unwrap().serialize_pem()), "no certificate"),
        (write("der.pem", "0\u{82}\u{1}"), "no certificate"),
        (
            write("broken.pem", "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n"),
            "not PEM",
        ),
    ] {
        let e = Tls::new(Some(&path)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
        assert!(e.to_string().contains(word) && e.to_string().contains(&*path.to_string_lossy()), "{e}");
    }
    // A certificate's frame with something else in it is found when the first connection is made.
    let path = write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let e =
        Client::new("https://127.0.0.1:9", Config { ca_file: Some(path), ..config() }).call().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
}

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

// An Exchange that was never given a certificate has one that it signed itself, for a name that nobody uses: tls_pin is the way to
// it, and it must open the way to nobody else.
#[test]
fn a_pinned_certificate_is_trusted_and_no_other() {
    let (ours, other) = (Authority::new(), Authority::new());
    let expired = |p: &mut CertificateParams| {
        p.not_before = date_time_ymd(2000, 1, 1);
        p.not_after = date_time_ymd(2001, 1, 1);
    };
    let own = other.issue("EX1", expired);
    for version in BOTH {
        let server = answering(own.server_config(&[version], WebPkiClientVerifier::no_client_auth()));
        let call = |pins: Vec<Pin>| {
            let tls = TlsConfig { pins, ..TlsConfig::default() };
            Client::new(&https(&server), Config { tls, ..ours.config() }).call()
        };
        assert_eq!(call(vec![own.pin()]).unwrap().body, ENVELOPE.as_bytes());
        let next = ours.issue("127.0.0.1", |_| ()).pin();
        assert_eq!(call(vec![next, own.pin()]).unwrap().body, ENVELOPE.as_bytes(), "while it is changed");
        let e = call(vec![next]).unwrap_err();
        assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Tls, false), "{e}");
        let words = ["none of tls_pin", &own.pin().to_string(), "compare"];
        assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
        let strange = answering(other.server_config("127.0.0.1", |_| (), &[version]));
        let e = Client::new(&https(&strange), ours.config()).call().unwrap_err();
        assert!(e.to_string().contains("set tls_pin"), "the way is told: {e}");
        // What the authorities would take is not enough then.
        let server = answering(ours.server_config("127.0.0.1", |_| (), &[version]));
        let tls = TlsConfig { pins: vec![own.pin()], ..TlsConfig::default() };
        let e = Client::new(&https(&server), Config { tls, ..ours.config() }).call().unwrap_err();
        assert!(e.to_string().contains("none of tls_pin"), "{e}");
    }
}

// Everybody may have a server's certificate: who has not its key must not pass for the server.
#[test]
fn a_pinned_certificate_without_its_key_is_nothing() {
    let authority = Authority::new();
    let (theirs, mine) = (authority.issue("127.0.0.1", |_| ()), KeyPair::generate().unwrap());
    #[derive(Debug)]
    struct Stolen(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Stolen {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    for version in BOTH {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(mine.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let stolen = rustls::sign::CertifiedKey::new(vec![theirs.cert.der().clone()], key);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Stolen(Arc::new(stolen))));
        let server = answering(Arc::new(config));
        let tls = TlsConfig { pins: vec![theirs.pin()], ..TlsConfig::default() };
        let e = Client::new(&https(&server), Config { tls, ..authority.config() }).call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    }
}

// Who demands TLS 1.3 must not be talked down, and has to read which setting it was.
#[test]
fn tls_1_3_at_least() {
    let authority = Authority::new();
    let call = |version| {
        let server = answering(authority.server_config("127.0.0.1", |_| (), &[version]));
        let tls = TlsConfig { only_tls13: true, ..TlsConfig::default() };
        Client::new(&https(&server), Config { tls, ..authority.config() }).call()
    };
    call(&rustls::version::TLS13).unwrap();
    let e = call(&rustls::version::TLS12).unwrap_err();
    assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Tls, false), "{e}");
    assert!(e.to_string().contains("tls_min=1.3") && e.to_string().contains("tls_min=1.2"), "{e}");
}

// Some companies let nobody to EWS who has no certificate of theirs.
#[test]
fn a_server_that_wants_a_certificate_of_the_clients() {
    let (ours, other) = (Authority::new(), Authority::new());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mine = ours.issue("ada", |_| ()).write(dirs[0].path());
    let strange = other.issue("ada", |_| ()).write(dirs[1].path());
    let with = |certificate: &Path, key: Option<&Path>| {
        let (certificate, key) = (Some(certificate.to_owned()), key.map(Path::to_owned));
        Config { tls: TlsConfig { certificate, key, ..TlsConfig::default() }, ..ours.config() }
    };
    for version in BOTH {
        let server_config = ours.issue("127.0.0.1", |_| ()).server_config(&[version], ours.of_clients());
        let server = answering(server_config);
        let call = |config: Config| Client::new(&https(&server), config).call();
        assert_eq!(call(with(&mine.0, Some(&mine.1))).unwrap().body, ENVELOPE.as_bytes());
        for (config, words) in [
            (ours.config(), ["wants a certificate of the client's", "set tls_cert and tls_key"]),
            (
                with(&strange.0, Some(&strange.1)),
                ["refused our certificate (tls_cert)", "an authority that the server trusts"],
            ),
        ] {
            let e = call(config).unwrap_err();
            assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Tls, false), "{version:?}: {e}");
            assert!(words.iter().all(|w| e.to_string().contains(w)), "{version:?}: {e}");
        }
    }
    // Both in one file.
    let one = dirs[0].path().join("both.pem");
    let both = [std::fs::read(&mine.0).unwrap(), std::fs::read(&mine.1).unwrap()].concat();
    std::fs::write(&one, both).unwrap();
    Tls::of(&with(&one, None)).unwrap();
    // What is wrong with the files is told when the program starts, with the file's name.
    let protected = dirs[0].path().join("protected.pem");
    std::fs::write(
        &protected,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let missing = dirs[0].path().join("missing.pem");
    for (config, file, words) in [
        (with(&mine.0, Some(&strange.1)), &strange.1, "is not the key of the certificate"),
        (with(&missing, Some(&mine.1)), &missing, "tls_cert"),
        (with(&mine.0, Some(&missing)), &missing, "tls_key"),
        (with(&mine.1, Some(&mine.1)), &mine.1, "no certificate in it"),
        (with(&mine.0, None), &mine.0, "no private key"),
        (with(&mine.0, Some(&protected)), &protected, "passphrase"),
    ] {
        let e = Tls::of(&config).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
        assert!(e.to_string().contains(words) && e.to_string().contains(&*file.to_string_lossy()), "{e}");
    }
}

// Certificates are renewed every few months, and programs run for longer: all watches would end on the day on which the old one expires.
#[test]
fn certificates_that_are_renewed_are_read_again() {
    let (ours, other) = (Authority::new(), Authority::new());
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (cert, key) = other.issue("ada", |_| ()).write(dirs[0].path());
    let ca = dirs[2].path().join("ca.pem");
    std::fs::copy(other.file.path(), &ca).unwrap();
    let tls = TlsConfig { certificate: Some(cert.clone()), key: Some(key.clone()), ..TlsConfig::default() };
    let config = Config { ca_file: Some(ca.clone()), tls, ..config() };
    // As certbot and the like do it.
    let replace = |file: &Path, by: &[u8]| {
        let next = file.with_extension("next");
        std::fs::write(&next, by).unwrap();
        std::fs::rename(next, file).unwrap();
    };
    let server = answering(ours.issue("127.0.0.1", |_| ()).server_config(&BOTH, ours.of_clients()));
    let client = Client::new(&https(&server), config);
    // A stream's connection is always a new one.
    let says = |words: &str| {
        let e = client.open().unwrap_err();
        assert!(e.kind() == ErrorKind::Tls && e.to_string().contains(words), "{e}");
    };
    says("an authority that this machine does not know");
    replace(&ca, &std::fs::read(ours.file.path()).unwrap());
    says("refused our certificate");
    let (new_cert, new_key) = ours.issue("ada", |_| ()).write(dirs[1].path());
    // In between, the one does not belong to the other.
    replace(&cert, &std::fs::read(new_cert).unwrap());
    says("refused our certificate");
    replace(&key, &std::fs::read(new_key).unwrap());
    drop(client.open().unwrap());
    // PEM, and no certificate in it.
    replace(&ca, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    drop(client.open().unwrap());
    // A disk that is full: what was read before is good still.
    replace(&cert, b"");
    std::fs::remove_file(&ca).unwrap();
    drop(client.open().unwrap());
}

// The certificate says who somebody is, and IIS lets in who shows it: an issuer of tokens, who may be anybody's, has no use for it.
#[test]
fn no_issuer_is_shown_the_certificate() {
    let ours = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = ours.issue("ada", |_| ()).write(dir.path());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ours.file.path()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let who_wants = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let asks = who_wants.allow_unauthenticated().build().unwrap();
    let (send, shown) = std::sync::mpsc::channel();
    let server = serve(ours.issue("127.0.0.1", |_| ()).server_config(&BOTH, asks), move |mut stream| {
        while read_request(&mut stream).is_some() {
            send.send(stream.conn.peer_certificates().is_some()).unwrap();
            let _ = stream.write_all(&ok(ENVELOPE));
        }
    });
    let tls = TlsConfig { certificate: Some(cert.clone()), key: Some(key.clone()), ..TlsConfig::default() };
    Client::new(&https(&server), Config { tls, ..ours.config() }).call().unwrap();
    let mut options = ewsnotify::Options::new();
    let (device, token) = (https(&server) + "/device", https(&server) + "/token");
    for (name, value) in [
        ("url", "mail.example.test"),
        ("user", USER),
        ("oauth_client_id", "helpdesk"),
        ("oauth_device_url", &device),
        ("oauth_token_url", &token),
        ("ca_file", ours.file.path().to_str().unwrap()),
        ("tls_cert", cert.to_str().unwrap()),
        ("tls_key", key.to_str().unwrap()),
    ] {
        options.set(name, value).unwrap();
    }
    let sign_in = ewsnotify::sign_in::SignIn::new(&options).unwrap();
    sign_in.device(&ewsnotify::net::Cancel::new()).unwrap_err();
    assert_eq!(shown.try_iter().collect::<Vec<_>>(), [true, false]);
}
