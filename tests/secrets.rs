//! Secrets are wiped: when a client has gone, no copy of its password is left in the memory of the process.
#![cfg(all(feature = "sim", target_os = "linux"))]

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use ewsnotify::sim::Sim;
use ewsnotify::{Client, EventKind, Next, Options};
use zeroize::Zeroizing;

const ADA: &str = "ada@example.test";
/// The variable with the server's address; the role is played only where it is set.
const URL: &str = "EWSN_TEST_SECRETS_URL";
/// What is looked for is a piece of the secret, so that half of it counts as well.
const PIECE: usize = 16;
/// What is looked for must not be found where it is kept for the search.
const VEIL: u8 = 0x5A;

// A core dump, a page in the swap, or a bug that shows memory (Heartbleed) would have the password of every mailbox.
#[test]
fn nothing_of_a_password_is_left_in_memory() {
    // So long that what is freed of it does not serve the next small thing at once.
    let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(1500).collect();
    let header = base64::prelude::BASE64_STANDARD.encode(format!("{ADA}:{password}"));
    // From the middle: the allocator writes over the beginning of what is freed.
    let veiled =
        |text: &str| -> Vec<u8> { text.bytes().skip(text.len() / 2).take(PIECE).map(|b| b ^ VEIL).collect() };
    for (tls, json) in [(true, false), (false, true)] {
        let sim = Sim::builder().tls(tls).user(ADA, &password).start().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "role", "--nocapture", "--test-threads=1"]);
        command.env(URL, sim.url()).env("EWSN_TEST_JSON", if json { "1" } else { "" });
        command.env("EWSN_TEST_CA", sim.ca_file().unwrap_or("".as_ref()));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let needles = [veiled(&password), veiled(&header)].concat();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[&needles[..], password.as_bytes()].concat()).unwrap();
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{said}");
        let counts: Vec<&str> = said.lines().filter(|l| l.starts_with("found: ")).collect();
        let [set, with, without] = counts[..] else { panic!("{said}") };
        assert_eq!(set, "found: [2, 0]", "what was given, and the options' own; JSON {json}: {said}");
        // The search itself works: a client that is open has both.
        assert!(!with.contains("[0,") && !with.contains(", 0]"), "TLS {tls}, JSON {json}: {said}");
        assert_eq!(without, "found: [0, 0]", "TLS {tls}, JSON {json}: {said}");
    }
}

/// The process that is looked at.
#[test]
fn role() {
    let Ok(url) = std::env::var(URL) else { return };
    // Not by `stdin()`, which has a buffer of its own.
    let mut given = Zeroizing::new(vec![0; 4096]);
    let mut stdin = std::fs::File::open("/proc/self/fd/0").unwrap();
    let mut length = 0;
    while let n @ 1.. = stdin.read(&mut given[length..]).unwrap() {
        length += n;
    }
    let needles = [given[..PIECE].to_vec(), given[PIECE..2 * PIECE].to_vec()];
    {
        let password = std::str::from_utf8(&given[2 * PIECE..length]).unwrap();
        let mut options = Options::new();
        options.set("url", &url).unwrap().set("user", ADA).unwrap().set("fetch", "mime").unwrap();
        let ca = std::env::var("EWSN_TEST_CA").unwrap();
        if !ca.is_empty() {
            options.set("ca_file", &ca).unwrap();
        }
        if std::env::var("EWSN_TEST_JSON").is_ok_and(|json| !json.is_empty()) {
            let mut json = Zeroizing::new(String::with_capacity(2000));
            json.push_str("{\"mode\": \"streaming\", \"password\": \"");
            json.push_str(password);
            json.push_str("\"}");
            options.set_json(&json).unwrap();
        } else {
            options.set("password", password).unwrap();
        }
        writeln!(std::io::stderr(), "found: {:?}", count(&needles)).unwrap();
        let client = Client::open(&options).unwrap();
        client.watch(&Options::new()).unwrap();
        loop {
            match client.next(Duration::from_secs(60)) {
                Next::Event(event) if event.kind == EventKind::Connected => break,
                Next::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
        writeln!(std::io::stderr(), "found: {:?}", count(&needles)).unwrap();
        assert!(client.close());
    }
    drop(given);
    writeln!(std::io::stderr(), "found: {:?}", count(&needles)).unwrap();
}

/// How often each is in this process's memory: heap, stacks, and all else that can be written to.
fn count(needles: &[Vec<u8>]) -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut found = vec![0; needles.len()];
    let mut piece = Zeroizing::new(vec![0u8; 1 << 20]);
    for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while at < to {
            let want = usize::try_from((to - at).min(piece.len() as u64)).unwrap();
            // Some pages (of the kernel's) cannot be read.
            let Ok(n @ 1..) = memory.read_at(&mut piece[..want], at) else { break };
            for (count, needle) in found.iter_mut().zip(needles) {
                let same = |window: &[u8]| window.iter().zip(needle).all(|(a, b)| a ^ VEIL == *b);
                *count += piece[..n].windows(PIECE).filter(|w| same(w)).count();
            }
            piece[..n].fill(0);
            // A needle may lie across two pieces.
            at += if n == want && at + (n as u64) < to { n - PIECE } else { n } as u64;
        }
    }
    found
}
