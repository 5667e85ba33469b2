//! Other places to connect to: tests and firewalls need them, and the name in the certificate must stay the one of the url.

use ewsnotify::ErrorKind;
use ewsnotify::net::{Config, ConnectTo};

use crate::server::*;
use crate::tls::{Authority, answering};

fn to(rules: &[String], config: Config) -> Config {
    let connect_to = rules.iter().map(|rule| rule.parse::<ConnectTo>().unwrap()).collect();
    Config { connect_to, ..config }
}

// A name that no resolver knows leads to the server; and nobody else's certificate is good for it.
#[test]
fn the_socket_goes_elsewhere_and_the_certificate_stays() {
    let authority = Authority::new();
    let server = answering(authority.server_config("mail.example.invalid", |_| (), rustls::ALL_VERSIONS));
    let rules = [
        format!("mail.example.invalid:443:127.0.0.1:{}", server.address.port()),
        format!("other.example.invalid::127.0.0.1:{}", server.address.port()),
    ];
    let call = |url: &str| Client::new(url, to(&rules, authority.config())).call();
    call("https://mail.example.invalid").unwrap();
    let e = call("https://other.example.invalid:4443").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.to_string().contains("other.example.invalid"), "{e}");
}

// The head must name the server that is meant, or a server of many names answers for another.
#[test]
fn the_host_header_is_the_urls() {
    let (send, heads) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream, _| {
        let (head, _) = read_request(&mut stream).unwrap();
        send.send(header(&head, "host").unwrap().to_owned()).unwrap();
        let _ = std::io::Write::write_all(&mut stream, &ok(ENVELOPE));
    });
    let config =
        Config { allow_plaintext: true, ..to(&[format!("::127.0.0.1:{}", server.address.port())], config()) };
    Client::new("http://mail.example.invalid:8080", config).call().unwrap();
    assert_eq!(heads.recv().unwrap(), "mail.example.invalid:8080");
}

// "localhost" may be given a password in clear text, wherever it is said to be.
#[test]
fn localhost_is_not_led_away() {
    for url in ["http://localhost", "http://127.0.0.1"] {
        let e = Client::new(url, to(&["::192.0.2.1:80".into()], config())).call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Connect);
        assert!(e.to_string().contains("no address of this machine"), "{e}");
    }
}
