//! HTTP services that want Kerberos: one of Python's, by MIT's GSSAPI, and Apache with mod_auth_gssapi; behind both is the simulator.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use base64::prelude::{BASE64_STANDARD, Engine};
use ewsnotify::sim::Sim;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::realm::{AUTODISCOVER, HOST, Realm, STRANGER};
use crate::support::DEADLINE;
use crate::tools::Daemon;

pub const ADA: &str = "ada@example.test";
/// What the services sign in to the simulator with; no client of theirs knows it.
const BEHIND: &str = "of-the-service";

/// The simulator behind a service.
pub fn sim() -> Sim {
    Sim::builder().tls(false).user(ADA, BEHIND).start().unwrap()
}

fn authorization() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{ADA}:{BEHIND}")))
}

/// `ca.pem`, and `server.pem` and `relay.pem` of that authority for the same names.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of the test");
    fs::write(folder.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(authority, key);
    for name in ["server", "relay"] {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new([HOST, STRANGER, AUTODISCOVER, "example.test"].map(str::to_owned))
            .unwrap();
        let cert = cert.signed_by(&key, &authority).unwrap();
        fs::write(folder.join(format!("{name}.pem")), cert.pem() + &key.serialize_pem()).unwrap();
    }
}

/// tests/kerberos/service.py, running.
pub struct Service {
    child: Child,
    ports: Value,
    told: Receiver<String>,
    folder: TempDir,
}

impl Service {
    pub fn start(realm: &Realm, sim: &Sim) -> Service {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let mut command = Command::new("/usr/bin/python3");
        realm.env(&mut command, "none");
        let mut child = command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kerberos/service.py"))
            .args([folder.path().to_str().unwrap(), &sim.address().to_string(), &authorization()])
            .env("KRB5_KTNAME", realm.path("http.keytab"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ports = serde_json::from_str(&lines.next().unwrap()).unwrap();
        let (send, told) = channel();
        std::thread::spawn(move || lines.try_for_each(|line| send.send(line)));
        Service { child, ports, told, folder }
    }

    /// How a command finds one of the servers.
    pub fn reach(&self, server: &str, host: &str) -> Vec<String> {
        reach(host, self.ports[server].as_u64().unwrap(), self.folder.path())
    }

    /// How a command finds the server itself, where all names are that of one of the servers.
    pub fn reach_by_address(&self, server: &str) -> Vec<String> {
        let (place, ca) =
            (format!("connect_to=:443:127.0.0.1:{}", self.ports[server]), self.folder.path().join("ca.pem"));
        ["--option", &place, "--ca-file", ca.to_str().unwrap()].map(str::to_owned).into()
    }

    /// How a command finds one of the servers without TLS.
    pub fn reach_in_the_clear(&self, server: &str) -> Vec<String> {
        let (url, place) =
            (format!("http://{HOST}"), format!("connect_to={HOST}:80:127.0.0.1:{}", self.ports[server]));
        ["--url", &url, "--option", &place, "--option", "allow_plaintext=true"].map(str::to_owned).into()
    }

    /// What the servers have told of each request, to their end: server, what came of the sign-in, the body's length.
    pub fn end(mut self) -> Vec<(String, String, u64)> {
        drop(self.child.stdin.take());
        let mut all = Vec::new();
        while let Ok(line) = self.told.recv_timeout(DEADLINE) {
            let line: Value = serde_json::from_str(&line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            all.push((text("server"), text("sign_in"), line["body"].as_u64().unwrap()));
        }
        all
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn reach(host: &str, port: u64, folder: &Path) -> Vec<String> {
    let (url, place) = (format!("https://{host}"), format!("connect_to={host}:443:127.0.0.1:{port}"));
    let ca = folder.join("ca.pem").to_str().unwrap().to_owned();
    ["--url", &url, "--option", &place, "--ca-file", &ca].map(str::to_owned).into()
}

/// Apache with TLS and Kerberos.
pub struct Apache {
    pub daemon: Daemon,
    /// How a command finds it.
    pub reach: Vec<String>,
    _folder: TempDir,
}

/// Apache, as an administrator would put it before an Exchange. `None` where it is not here.
pub fn apache(realm: &Realm, sim: &Sim) -> Option<Apache> {
    let modules = "/usr/lib/apache2/modules";
    if !Path::new(modules).join("mod_auth_gssapi.so").is_file() {
        println!("Apache's mod_auth_gssapi is not here (tests/run installs it): nothing was tried");
        return None;
    }
    let (upstream, authorization, keytab) = (sim.address(), authorization(), realm.path("http.keytab"));
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let pem = folder.path().join("server.pem");
    let pem = pem.display();
    let daemon = Daemon::start("apache2", |command, dir, port| {
        let needs = [
            "mpm_event",
            "authn_core",
            "authz_core",
            "authz_user",
            "auth_gssapi",
            "headers",
            "proxy",
            "proxy_http",
            "ssl",
            "socache_shmcb",
        ];
        let load: String =
            needs.iter().map(|name| format!("LoadModule {name}_module {modules}/mod_{name}.so\n")).collect();
        let at = dir.display();
        // It refuses to serve as root.
        let user = if rustix::process::getuid().is_root() { "User www-data\nGroup www-data" } else { "" };
        let text = format!(
            "{load}
             ServerRoot {at}
             ServerName {HOST}
             DefaultRuntimeDir {at}
             PidFile {at}/pid
             Mutex pthread
             ErrorLog {at}/log
             LogLevel auth_gssapi:info
             {user}
             Listen 127.0.0.1:{port}
             SSLEngine on
             SSLCertificateFile {pem}
             <Location />
               AuthType GSSAPI
               AuthName example
               GssapiCredStore keytab:{keytab}
               GssapiConnectionBound On
               Require valid-user
               RequestHeader set Authorization \"{authorization}\"
               ProxyPass http://{upstream}/ flushpackets=on
             </Location>\n"
        );
        fs::write(dir.join("config"), text).unwrap();
        realm.env(command, "none");
        // In one process, which ends with its only signal.
        command.args(["-X", "-f"]).arg(dir.join("config"));
    })?;
    let reach = reach(HOST, daemon.port.into(), folder.path());
    Some(Apache { daemon, reach, _folder: folder })
}
