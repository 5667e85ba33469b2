//! NTLM against others: servers of pyspnego's that require channel binding, and requests_ntlm against the simulator.
#![cfg(feature = "sim")]

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ewsnotify::auth::{Auth, Basic, ByOffer, Fresh, Ntlm, Secret};
use ewsnotify::net::{Cancel, Config, Counters, Endpoint, HttpLink, Link, Opened, Post, Tls};
use ewsnotify::sim::record::Request;
use ewsnotify::sim::{ExtendedProtection, Scheme, Sim};
use ewsnotify::{Client, Error, ErrorKind, EventKind, Next, Options};

/// Not ASCII: UTF-16 is what counts.
const PASSWORD: &str = "hünter2 <€>";
const ADA: &str = "ada@example.test";

/// The Python that `tests/run` made. Where that is not set, the test cannot be made; where it is, it must work.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("EWSN_PYTHON").map(PathBuf::from);
    if python.is_none() {
        eprintln!("not tested: EWSN_PYTHON is not set, so there is no pyspnego");
    }
    python
}

/// tests/ntlm_server.py, running.
struct Servers {
    child: Child,
    folder: tempfile::TempDir,
    ports: serde_json::Value,
}

impl Servers {
    fn start(python: &Path, scheme: &str) -> Servers {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, format!("EXAMPLE:ada:{PASSWORD}\n:{ADA}:{PASSWORD}\n")).unwrap();
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ntlm_server.py"))
            .arg(folder.path())
            .arg(scheme)
            .env("NTLM_USER_FILE", users)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = serde_json::from_str(&line).unwrap();
        Servers { child, folder, ports }
    }

    fn link(&self, server: &str, user: &str, password: &str) -> (HttpLink, Arc<Counters>) {
        let url = format!("https://127.0.0.1:{}/EWS/Exchange.asmx", self.ports[server]);
        link(&url, &self.folder.path().join("ca.pem"), Arc::new(sign_in(user, password, false)))
    }

    fn refused(&self, server: &str, user: &str, password: &str) -> Error {
        let e = call(&self.link(server, user, password).0).unwrap_err();
        assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(401)), "{server}: {e}");
        e
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn sign_in(user: &str, password: &str, basic: bool) -> ByOffer {
    let fresh = || Ok(Fresh { now: std::time::SystemTime::now(), nonce: fastrand::u64(..).to_le_bytes() });
    let basic = basic.then(|| Basic::new(user, Secret::new(password)).unwrap());
    ByOffer::new(user, Ntlm::new(user, Secret::new(password), fresh).unwrap(), basic)
}

fn link(url: &str, ca_file: &Path, auth: Arc<dyn Auth>) -> (HttpLink, Arc<Counters>) {
    let config = Config { ca_file: Some(ca_file.to_owned()), ..Config::default() };
    let (tls, counters) = (Arc::new(Tls::new(Some(ca_file)).unwrap()), Arc::new(Counters::default()));
    let endpoint = Endpoint::parse(url).unwrap();
    (HttpLink::new(endpoint, config, auth, tls, counters.clone()).unwrap(), counters)
}

fn post() -> Post<'static> {
    Post {
        body: b"<ask/>",
        soap_action: "http://example.test/ews/GetFolder",
        anchor_mailbox: None,
        cookies: None,
    }
}

fn call(link: &HttpLink) -> ewsnotify::Result<String> {
    link.call(&post(), &Cancel::new()).map(|reply| String::from_utf8(reply.body).unwrap())
}

// Two ends that only agree with themselves prove nothing: with pyspnego as the server, which requires the binding, each hash that a
// certificate can be signed by, each form of a name, and both names of the scheme.
#[test]
fn a_server_that_others_wrote_takes_our_sign_in_and_its_channel_binding() {
    let Some(python) = python() else { return };
    for scheme in ["NTLM", "Negotiate"] {
        let servers = Servers::start(&python, scheme);
        for server in ["ecdsa-sha256", "ecdsa-sha384", "rsa-sha256", "rsa-sha512", "pss-sha512"] {
            let (link, counters) = servers.link(server, "EXAMPLE\\ada", PASSWORD);
            assert_eq!(call(&link).unwrap(), "<Envelope>EXAMPLE\\ada <ask/></Envelope>", "{scheme} {server}");
            assert_eq!(
                call(&link).unwrap(),
                "<Envelope>EXAMPLE\\ada again</Envelope>",
                "the connection is signed in"
            );
            assert_eq!(counters.sockets_opened(), 1);
            let Opened::Stream(mut stream) = link.open(&post(), &Cancel::new()).unwrap() else { panic!() };
            let mut buf = [0; 100];
            let n = stream.read(&mut buf, None).unwrap();
            assert_eq!(&buf[..n], b"<Envelope>EXAMPLE\\ada <ask/></Envelope>");
        }
        let (link, _) = servers.link("ecdsa-sha256", ADA, PASSWORD);
        assert_eq!(call(&link).unwrap(), format!("<Envelope>{ADA} <ask/></Envelope>"));
    }
}

// Who stands in the middle with a certificate that we trust could sign in as us; and an administrator who has put a proxy there
// must learn why nobody can.
#[test]
fn a_server_that_others_wrote_refuses_a_sign_in_that_came_by_another_channel() {
    let Some(python) = python() else { return };
    let servers = Servers::start(&python, "NTLM");
    let e = servers.refused("relay", "EXAMPLE\\ada", PASSWORD).to_string();
    assert!(e.contains("x-diaginfo: BadBindingsError") && e.contains("Extended Protection"), "{e}");
    assert!(e.contains("proxy before it ends TLS") && e.contains("auth=basic"), "{e}");
    // Nothing is defined for such a certificate, so nothing can be named.
    let e = servers.refused("ed25519", "EXAMPLE\\ada", PASSWORD).to_string();
    assert!(e.contains("x-diaginfo: Unbound") && e.contains("Ed25519"), "{e}");
    let e = servers.refused("ecdsa-sha256", "EXAMPLE\\ada", "wrong").to_string();
    assert!(e.contains("x-diaginfo: InvalidTokenError") && e.contains("check name"), "{e}");
    let e = servers.refused("ecdsa-sha256", "OTHER\\ada", PASSWORD).to_string();
    assert!(e.contains("user OTHER\\ada") && !e.contains("nter2"), "{e}");
}

// The other way round: our simulator's NTLM is what clients of others believe it to be.
#[test]
fn requests_ntlm_signs_in_to_the_simulator() {
    let Some(python) = python() else { return };
    for scheme in [Scheme::Ntlm, Scheme::Negotiate] {
        let sim = Sim::builder()
            .user(ADA, PASSWORD)
            .offers([scheme])
            .extended_protection(ExtendedProtection::Require)
            .start()
            .unwrap();
        let out = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ntlm_client.py"))
            .args([sim.url(), ADA, PASSWORD])
            .env("REQUESTS_CA_BUNDLE", sim.ca_file().unwrap())
            .env("PYTHONIOENCODING", "utf-8")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(said, "bound [200, 200]\nunbound [401, 401]\nwrong password [401, 401]\n");
    }
}

fn options(sim: &Sim) -> Options {
    let mut options = Options::new();
    options.set("url", sim.url()).unwrap().set("user", ADA).unwrap().set("password", PASSWORD).unwrap();
    if let Some(file) = sim.ca_file() {
        options.set("ca_file", file.to_str().unwrap()).unwrap();
    }
    options
}

fn schemes(requests: &[Request]) -> Vec<(&str, &str, u16)> {
    let scheme = |r: &Request| match r.header("authorization") {
        Some("NTLM") => "NTLM",
        Some("Negotiate") => "Negotiate",
        Some("Basic") => "Basic",
        _ => "-",
    };
    requests.iter().map(|r| (scheme(r), &*r.operation, r.status.unwrap_or(0))).collect()
}

// What Exchange SE asks of a watch: each connection signs in once, a stream too, and the password never goes out.
#[test]
fn a_watch_signs_in_by_ntlm_where_it_is_offered() {
    let ways = [Scheme::Negotiate, Scheme::Ntlm, Scheme::Basic];
    let protection = ExtendedProtection::Require;
    let sim =
        Sim::builder().user(ADA, PASSWORD).offers(ways).extended_protection(protection).start().unwrap();
    let mut options = options(&sim);
    options.set("fetch", "summary").unwrap().set("workers", "1").unwrap();
    let client = Client::open(&options).unwrap();
    client.watch(&Options::new()).unwrap();
    let limit = Duration::from_secs(30);
    assert!(sim.wait_until(limit, |stats| stats.streams == 1));
    for n in 0..3 {
        sim.exchange().deliver(ADA, format!("Subject: {n}\r\n\r\n").as_bytes()).unwrap();
        loop {
            match client.next(limit) {
                Next::Event(event) if event.kind == EventKind::NewMail => break,
                Next::Event(_) => {}
                other => panic!("no mail: {other:?}"),
            }
        }
    }
    client.close();
    let requests = sim.requests();
    let all = schemes(&requests);
    assert!(all.iter().all(|(scheme, _, _)| matches!(*scheme, "NTLM" | "-")), "{all:?}");
    // The question what is offered is for the link, the two turns for each connection.
    let unasked = all.iter().filter(|(scheme, _, status)| *scheme == "-" && *status == 401).count();
    assert_eq!(unasked, 1, "{all:?}");
    let opening = |r: &&Request| r.header("authorization").is_some() && r.status == Some(401);
    let mut opened: Vec<u64> = requests.iter().filter(opening).map(|r| r.connection).collect();
    assert!(requests.iter().filter(opening).all(|r| r.body.is_empty()), "with an empty body");
    let turns = opened.len();
    opened.dedup();
    assert_eq!(turns, opened.len(), "once for each connection: {all:?}");
    assert_eq!(all.iter().filter(|(scheme, _, status)| *scheme == "NTLM" && *status == 200).count(), turns);
    let kept = all
        .iter()
        .filter(|(scheme, operation, status)| *scheme == "-" && *status == 200 && *operation == "GetItem");
    assert_eq!(kept.count(), 3, "on a connection that is signed in: {all:?}");
}

// A server that offers Basic alone is asked once, and not before each request.
#[test]
fn basic_goes_out_only_where_nothing_better_is_offered() {
    let sim = Sim::builder().user(ADA, PASSWORD).start().unwrap();
    let (link, _) = link(sim.url(), sim.ca_file().unwrap(), Arc::new(sign_in(ADA, PASSWORD, true)));
    for _ in 0..3 {
        // What is asked is nonsense, which is said to who has signed in.
        let _ = call(&link);
    }
    assert_eq!(
        schemes(&sim.requests()).iter().map(|(scheme, _, _)| *scheme).collect::<Vec<_>>(),
        ["-", "Basic", "Basic", "Basic"]
    );
}
