//! A realm of a test's own: MIT's KDC on a free port of this machine, with its database, its users and their keytabs in a folder.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use tempfile::TempDir;

pub const REALM: &str = "EXAMPLE.TEST";
pub const HOST: &str = "mail.example.test";
pub const AUTODISCOVER: &str = "autodiscover.example.test";
/// A host that the KDC does not know, nor does it example.test.
pub const STRANGER: &str = "stranger.example.test";

pub struct Realm {
    kdc: Child,
    /// Reads what the KDC tells, and counts whom it was asked for a ticket by.
    log: Option<JoinHandle<usize>>,
    folder: TempDir,
}

/// A program of the machine's, or one that `tests/run` has taken out of a package.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places =
        path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(|dir| Path::new(dir).join(name));
    places.find(|file| file.is_file())
}

/// Whether all is there that a realm needs, and the service; says what is not.
pub fn is_possible() -> bool {
    for name in ["krb5kdc", "kdb5_util", "kadmin.local", "kinit", "klist"] {
        if program(name).is_none() {
            println!("{name} is not here (tests/run installs it): nothing was tried");
            return false;
        }
    }
    let imported = Command::new("/usr/bin/python3").args(["-c", "import gssapi"]).output();
    let is_there = imported.is_ok_and(|out| out.status.success());
    if !is_there {
        println!("python3-gssapi is not here (tests/run installs it): nothing was tried");
    }
    is_there
}

impl Realm {
    /// `settings` are lines for `[libdefaults]`.
    pub fn start(settings: &str) -> Realm {
        Realm::named(REALM, settings)
    }

    pub fn named(name: &str, settings: &str) -> Realm {
        for _ in 0..10 {
            // Free a moment ago, for both; if somebody else was quicker, another one is tried.
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = tcp.local_addr().unwrap().port();
            if UdpSocket::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            drop(tcp);
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), name, settings, port);
            let mut realm = Realm { kdc: database(folder.path(), name), log: None, folder };
            if realm.is_up() {
                // A service may run as somebody else.
                let open =
                    |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
                open(realm.folder.path(), 0o755);
                open(&realm.folder.path().join("http.keytab"), 0o644);
                return realm;
            }
        }
        panic!("the KDC does not start");
    }

    fn is_up(&mut self) -> bool {
        let log = BufReader::new(self.kdc.stderr.take().unwrap());
        let (send, up) = channel();
        // To its end: a KDC whose pipe is full would stand still.
        self.log = Some(std::thread::spawn(move || {
            let mut asked = 0;
            for line in log.lines().map_while(Result::ok) {
                if line.contains("commencing operation") {
                    let _ = send.send(());
                }
                asked += usize::from(line.contains("AS_REQ"));
            }
            asked
        }));
        up.recv().is_ok()
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// For a child: this realm, and a cache of its own, which is empty.
    pub fn env(&self, command: &mut Command, cache: &str) {
        command.env("KRB5_CONFIG", self.path("krb5.conf")).env("KRB5CCNAME", self.cache(cache));
        // Those of who runs the tests are not theirs.
        command.env_remove("KRB5_CLIENT_KTNAME").env_remove("KRB5_KTNAME").env("LC_ALL", "C.UTF-8");
        command.env("KRB5RCACHENAME", "none:");
    }

    fn cache(&self, name: &str) -> String {
        format!("FILE:{}", self.path(name))
    }

    /// Puts a ticket of Ada's into a cache.
    pub fn kinit(&self, cache: &str, more: &[&str]) {
        let mut command = Command::new(program("kinit").unwrap());
        self.env(&mut command, cache);
        run(command.args(more).args(["-k", "-t", &self.path("ada.keytab"), "ada"]));
    }

    /// Whether there is a ticket that has not expired in a cache.
    pub fn has_ticket(&self, cache: &str) -> bool {
        let mut command = Command::new(program("klist").unwrap());
        self.env(&mut command, cache);
        command.arg("-s").status().unwrap().success()
    }

    /// Ends the KDC, and tells how often a user signed in to it.
    pub fn stop(&mut self) -> usize {
        let _ = self.kdc.kill();
        self.kdc.wait().unwrap();
        self.log.take().map_or(0, |log| log.join().unwrap())
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write(folder: &Path, name: &str, settings: &str, port: u16) {
    let at = folder.display();
    let client = format!(
        "[libdefaults]
 default_realm = {name}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 {settings}
[realms]
 {name} = {{
  kdc = 127.0.0.1:{port}
 }}
[logging]
 kdc = STDERR
 admin_server = STDERR
"
    );
    fs::write(folder.join("krb5.conf"), client).unwrap();
    // Of a KDC that was taken out of its package, the driver of its database lies beside it.
    let kdc = program("krb5kdc").unwrap();
    let beside = kdc.parent().and_then(Path::parent).map(|usr| usr.join("lib"));
    let beside = beside.and_then(|lib| fs::read_dir(lib).ok()).into_iter().flatten().flatten();
    let driver = beside.map(|dir| dir.path().join("krb5/plugins/kdb")).find(|dir| dir.is_dir());
    let driver = driver.map_or_else(String::new, |dir| format!(" db_module_dir = {}\n", dir.display()));
    let server = format!(
        "[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {name} = {{
  database_name = {at}/database
  key_stash_file = {at}/stash
 }}
[dbmodules]
{driver}"
    );
    fs::write(folder.join("kdc.conf"), server).unwrap();
}

/// Makes the database, and starts the KDC upon it.
fn database(folder: &Path, name: &str) -> Child {
    let tool = |name: &str| {
        let mut command = Command::new(program(name).unwrap());
        command.env("KRB5_CONFIG", folder.join("krb5.conf")).env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
        command.env("KRB5RCACHENAME", "none:");
        command
    };
    run(tool("kdb5_util").args(["-r", name, "create", "-s", "-P", "of the test"]));
    let at = folder.display();
    for request in [
        format!("addprinc -pw {} ada", crate::support::PASSWORD),
        format!("addprinc -randkey HTTP/{HOST}"),
        format!("ktadd -norandkey -k {at}/ada.keytab ada"),
        format!("ktadd -k {at}/http.keytab HTTP/{HOST}"),
        format!("addprinc -randkey HTTP/{AUTODISCOVER}"),
        format!("ktadd -k {at}/http.keytab HTTP/{AUTODISCOVER}"),
    ] {
        run(tool("kadmin.local").args(["-r", name, "-q", &request]));
    }
    tool("krb5kdc").args(["-n", "-r", name]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
