//! What is durable when: `drain` and `run` on a disk that takes its time, and says in a log when it has synced. The lines and
//! commands go into the same log, so it has the order of all.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::drain::{begun, mail};
use crate::support::{Running, USER, command, line, sim};

/// Stands before the system's `fdatasync` and `fsync`.
const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(const char *what) {
    const char *log = getenv("EWSN_TEST_LOG");
    int fd = log ? open(log, O_WRONLY | O_APPEND) : -1;
    if (fd >= 0 && write(fd, what, strlen(what)) >= 0) close(fd);
}

/* Whether it is the log itself, where the lines go. */
static int is_log(int fd) {
    const char *log = getenv("EWSN_TEST_LOG");
    struct stat a, b;
    return log && stat(log, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int fsync(int fd) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 4 && strcmp(path + strlen(path) - 4, ".eml") == 0) note("message synced\n");
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    int lines = is_log(fd);
    if (!lines) note("sync\n");
    usleep(100000);
    int result = syscall(SYS_fdatasync, fd);
    note(lines ? "lines synced\n" : "synced\n");
    return result;
}
"#;

fn slow_disk(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("disk.c"), dir.join("disk.so"));
    std::fs::write(&source, SLOW_DISK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.expect("a C compiler: the crate itself wants one").success());
    library
}

/// Runs it over four mails; the log.
fn log_of(subcommand: &str, rest: &[&str]) -> Vec<String> {
    let sim = sim();
    let (dir, reach) = begun(&sim);
    for n in 0..4 {
        sim.exchange().deliver(USER, &mail(n)).unwrap();
    }
    let log = dir.path().join("log");
    let out = File::options().create(true).append(true).open(&log).unwrap();
    let rest = [&["--exit-when-drained"], rest].concat();
    let mut command = command(&line(subcommand, &reach, &rest));
    command.env("LD_PRELOAD", slow_disk(dir.path())).env("EWSN_TEST_LOG", &log);
    let ended = Running::start_into(command, out.into()).end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// Between the end of one mail and the beginning of the next, a sync has begun and ended.
#[track_caller]
fn synced_between(log: &[String], is_begin: impl Fn(&str) -> bool, is_end: impl Fn(&str) -> bool) {
    let mut begun = 0;
    // What has come since the last end: nothing, `sync`, `synced`.
    let mut since = None;
    for text in log {
        if is_begin(text) {
            assert!(since.is_none_or(|s| s == 2), "the next before the last was durable: {log:#?}");
            begun += 1;
        }
        since = match (text.as_str(), since) {
            _ if is_end(text) => Some(0),
            ("sync", Some(0)) => Some(1),
            ("synced", Some(1)) => Some(2),
            _ => since,
        };
    }
    assert_eq!((begun, since), (4, Some(2)), "{log:#?}");
}

// A power cut in the middle of a backlog would have two commands run again instead of one.
#[test]
fn a_command_begins_when_the_last_is_durable() {
    let exec = "echo begin >> \"$EWSN_TEST_LOG\"; echo end >> \"$EWSN_TEST_LOG\"";
    synced_between(&log_of("run", &["--exec", exec]), |l| l == "begin", |l| l == "end");
}

// The same for lines: whoever reads them would get two again.
#[test]
fn a_line_is_printed_when_the_last_is_durable() {
    let log = log_of("drain", &["--event", "NewMail"]);
    let is_mail = |l: &str| l.contains("\"NewMail\"");
    synced_between(&log, is_mail, is_mail);
    // What lies in a file of lines may be lost in a power cut; what was acknowledged is not told again.
    let mut told = 0;
    for (at, _) in log.iter().enumerate().filter(|(_, l)| is_mail(l)) {
        let next = log[at + 1..].iter().find(|l| ["sync", "lines synced"].contains(&l.as_str()));
        assert_eq!(next.map(String::as_str), Some("lines synced"), "{log:#?}");
        told += 1;
    }
    assert_eq!(told, 4);
}

// What is acknowledged is not fetched again: a message that a power cut takes from the host's folder would be lost.
#[test]
fn a_message_is_on_the_disk_before_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let option = format!("spool_dir={}", folder.path().display());
    let log = log_of("drain", &["--event", "NewMail", "--fetch", "mime", "--option", &option]);
    let mut synced = 0;
    let mut told = 0;
    for text in &log {
        synced += usize::from(text == "message synced");
        told += usize::from(text.contains("\"NewMail\""));
        assert!(told <= synced, "{log:#?}");
    }
    assert_eq!(told, 4, "{log:#?}");
}
