//! Other people's proxies, in front of the client and in front of the server, with a watch through them: tinyproxy and microsocks on
//! the way out, nginx as a TLS reverse proxy before Exchange.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ewsnotify::sim::Sim;
use ewsnotify::{EventKind, Options, check};

use crate::proxies::PROXY_PASSWORD;
use crate::tls::Authority;
use crate::tools::Daemon;
use crate::watching::{ADA, Watching};

const NAME: &str = "mail.example.test";

fn sim(tls: bool) -> Sim {
    let sim = Sim::builder().tls(tls).names([NAME]).user(ADA, "secret").start().unwrap();
    sim.exchange().configure(|s| s.heartbeat = Duration::from_millis(300));
    sim
}

/// Where `NAME` is to be found.
fn at(port: u16) -> String {
    format!("{NAME}:443:127.0.0.1:{port}")
}

/// Each mail is told before the next one is delivered, all on the first stream, which is still open: nothing waits for its end.
fn told_one_by_one(w: &mut Watching) {
    w.connected();
    for _ in 0..10 {
        let id = w.deliver();
        w.until("the mail", |e| e.kind == EventKind::NewMail && e.item_id.as_deref() == Some(&id));
    }
    let streams = w.sim.streams();
    assert!(matches!(&streams[..], [stream] if stream.end.is_none()), "{streams:#?}");
}

fn watch(sim: Sim, settings: &[(&str, &str)]) -> Watching {
    let mut all = vec![("url", NAME)];
    all.extend(settings);
    Watching::start(sim, &all)
}

fn tinyproxy() -> Option<Daemon> {
    Daemon::start("tinyproxy", |command, dir, port| {
        let config = dir.join("config");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nBasicAuth ada {PROXY_PASSWORD}\n"
        );
        std::fs::write(&config, text).unwrap();
        command.arg("-d").arg("-c").arg(config);
    })
}

fn microsocks() -> Option<Daemon> {
    Daemon::start("microsocks", |command, _, port| {
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-u", "ada", "-P", PROXY_PASSWORD]);
    })
}

// Our own fakes and our own client agree with each other; whether they agree with the world, only others can tell.
#[test]
fn a_watch_streams_through_real_proxies() {
    for (scheme, proxy) in [("http", tinyproxy()), ("socks5", microsocks())] {
        let Some(proxy) = proxy else { continue };
        let sim = sim(true);
        let place = at(sim.address().port());
        let url = |password: &str| format!("{scheme}://ada:{password}@127.0.0.1:{}", proxy.port);
        let mut w = watch(sim, &[("connect_to", &place), ("proxy", &url(PROXY_PASSWORD))]);
        told_one_by_one(&mut w);
        // The wrong password: so it was by the proxy that it went.
        let mut options = Options::new();
        for (key, value) in [
            ("url", NAME),
            ("user", ADA),
            ("password", "secret"),
            ("connect_to", &place),
            ("ca_file", w.sim.ca_file().unwrap().to_str().unwrap()),
            ("proxy", &url("wrong-Blindschleiche")),
        ] {
            options.set(key, value).unwrap();
        }
        let checked = |options: &Options| {
            let mut told = Vec::new();
            let summary = check::check(options, &Default::default(), &mut |f| {
                told.push(format!("{:?}: {}", f.grade, f.message))
            });
            (summary.unwrap(), told.join("\n"))
        };
        let (summary, told) = checked(&options);
        assert!(summary.failed == 1 && summary.sign_in, "{told}");
        let words = [&*format!("the proxy {scheme}://127.0.0.1:{}", proxy.port), "\"ada\"", "option proxy"];
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        assert!(!told.contains("Blindschleiche"), "{told}");
        options.set("proxy", &url(PROXY_PASSWORD)).unwrap();
        let (summary, told) = checked(&options);
        assert!(summary.failed == 0 && told.contains(&format!("by the proxy {scheme}://")), "{told}");
    }
}

/// nginx with TLS before a simulator without.
fn nginx(authority: &Authority, sim: &Sim, buffering: &str) -> Option<Daemon> {
    let upstream = sim.address();
    Daemon::start("nginx", |command: &mut Command, dir: &Path, port| {
        authority.issue(NAME, |_| ()).write(dir);
        let config = dir.join("config");
        let dir = dir.display();
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/log;
             events {{ worker_connections 64; }}
             http {{
               access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
               uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
               server {{
                 listen 127.0.0.1:{port} ssl; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
                 location / {{
                   proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\";
                   proxy_set_header Host $host; proxy_read_timeout 1h; proxy_buffering {buffering};
                 }}
               }}
             }}\n"
        );
        std::fs::write(&config, text).unwrap();
        command.arg("-e").arg(format!("{dir}/log")).arg("-c").arg(config);
    })
}

// Many put nginx before Exchange: it must pass each event on when it comes.
#[test]
fn nginx_as_the_readme_has_it() {
    let (authority, sim) = (Authority::new(), sim(false));
    let Some(nginx) = nginx(&authority, &sim, "off") else { return };
    let ca_file = authority.config().ca_file.unwrap();
    let mut w = watch(sim, &[("connect_to", &at(nginx.port)), ("ca_file", ca_file.to_str().unwrap())]);
    told_one_by_one(&mut w);
}

// As nginx comes, it holds events back for minutes. Nobody would find that out from a watch that is merely slow.
#[test]
fn a_reverse_proxy_that_gathers_is_told_of() {
    let (authority, sim) = (Authority::new(), sim(false));
    let Some(nginx) = nginx(&authority, &sim, "on") else { return };
    let ca_file = authority.config().ca_file.unwrap();
    let settings = [
        ("connect_to", &*at(nginx.port)),
        ("ca_file", ca_file.to_str().unwrap()),
        ("call_timeout", "1s"),
        ("idle_timeout", "1s"),
    ];
    let mut w = watch(sim, &settings);
    let told = w.until("a word of it", |e| e.to_json().contains("gather answers"));
    assert!(told.to_json().contains("proxy_buffering off"), "{told:#?}");
}
