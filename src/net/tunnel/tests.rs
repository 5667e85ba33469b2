use super::http::MAX_HEAD;
use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().unwrap()
}

/// Plays a proxy that says `said` in pieces of `size`: what was sent to it, and what came of it.
fn play(proxy: &Proxy, host: &str, said: &[&[u8]], size: usize) -> (Vec<Vec<u8>>, Result<(), String>) {
    let host = Host::parse(host).unwrap();
    let mut tunnel = Tunnel::new(proxy, &host, 443, "agent/1");
    let (mut sent, mut said) = (Vec::new(), said.iter());
    loop {
        match tunnel.turn() {
            Turn::Send(bytes) => sent.push(bytes.to_vec()),
            Turn::Done => return (sent, Ok(())),
            Turn::Read => {
                let answer = said.next().copied().unwrap_or_default();
                let mut pieces: Vec<&[u8]> = answer.chunks(size).collect();
                if answer.is_empty() {
                    pieces.push(b"");
                }
                for piece in pieces {
                    if let Err(refusal) = tunnel.take(piece) {
                        let endpoint = Endpoint::parse("mail.example.test").unwrap();
                        return (sent, Err(format!("{:?}", refusal.into_error(&endpoint, proxy))));
                    }
                }
            }
        }
    }
}

// However the network cuts what a proxy says, the same comes of it; and it is sent what RFCs 9110, 1928 and 1929 say.
#[test]
fn bytes_in_pieces_of_any_size() {
    for size in 1..80 {
        let (sent, end) = play(
            &proxy("http://ada:hunter2@p.test:1"),
            "mail.example.test",
            &[b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"],
            size,
        );
        assert_eq!(end, Ok(()));
        let expected = "CONNECT mail.example.test:443 HTTP/1.1\r\nHost: mail.example.test:443\r\nUser-Agent: agent/1\r\n\
                        Proxy-Authorization: Basic YWRhOmh1bnRlcjI=\r\n\r\n";
        assert_eq!(sent, [expected.as_bytes()]);
        let (sent, end) = play(&proxy("http://p.test:1"), "[::1]", &[b"HTTP/1.0 200 OK\r\n\r\n"], size);
        assert_eq!(end, Ok(()));
        assert!(sent[0].starts_with(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"));
        assert!(!sent[0].windows(5).any(|w| w == b"Basic"));
        for reply in [
            &b"\x05\0\0\x01\x7f\0\0\x01\0\x50"[..],
            b"\x05\0\0\x03\x02ab\0\x50",
            b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50",
        ] {
            let said = [&b"\x05\x02"[..], b"\x01\0", reply];
            let (sent, end) = play(&proxy("socks5://ada:hunter2@p.test"), "mail.example.test", &said, size);
            assert_eq!(end, Ok(()));
            let ask = b"\x05\x01\0\x03\x11mail.example.test\x01\xbb";
            assert_eq!(sent, [&b"\x05\x02\0\x02"[..], b"\x01\x03ada\x07hunter2", ask]);
        }
        let said = [&b"\x05\0"[..], b"\x05\0\0\x01\x7f\0\0\x01\0\x50"];
        let (sent, end) = play(&proxy("socks5://p.test"), "192.0.2.7", &said, size);
        assert_eq!(end, Ok(()));
        assert_eq!(sent, [&b"\x05\x01\0"[..], b"\x05\x01\0\x01\xc0\0\x02\x07\x01\xbb"]);
        let (sent, _) = play(&proxy("socks5://p.test"), "[::1]", &said, size);
        assert_eq!(sent[1][3..], b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"[..]);
    }
}

// "It does not work" is all that a user knows: the text says that it was the proxy, why, and what to do.
#[test]
fn every_refusal_says_why() {
    let http = "http://ada:hunter2@p.test:1";
    let socks = "socks5://ada:hunter2@p.test";
    let page = b"HTTP/1.1 502 Bad Gateway\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\nRetry-After: 7\r\n\r\n<html>";
    let ntlm = b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
    for (which, said, words) in [
        (
            http,
            &[&b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"[..]][..],
            &["refused the sign-in of \"ada\"", "Auth, HTTP 407"][..],
        ),
        (
            "http://p.test:1",
            &[b"HTTP/1.1 407 x\r\n\r\n"],
            &["http://user:password@host:port", "Auth, HTTP 407"],
        ),
        (http, &[ntlm], &["offers NTLM, Negotiate", "no Basic", "cntlm", "Auth"]),
        (
            http,
            &[b"HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate, NTLM, Basic realm=\"x\"\r\n\r\n"],
            &["refused the sign-in of \"ada\"", "Auth, HTTP 407"],
        ),
        (
            http,
            &[b"HTTP/1.1 403 Filtered\r\n\r\n"],
            &[
                "forbids a connection to mail.example.test:443",
                "HTTP 403 Filtered",
                "administrator",
                "[Connect",
            ],
        ),
        (http, &[page], &["could not reach mail.example.test:443", "ERR_DNS_FAIL", "wait 7s"]),
        (http, &[b"HTTP/1.1 302 Found\r\nLocation: http://portal.test\r\n\r\n"], &["browser"]),
        (http, &[b"HTTP/1.0 405 no\r\n\r\n"], &["is it a proxy", "CONNECT"]),
        (http, &[b"HTTP/1.1 418 \x1b[2J\r\n\r\n"], &["no HTTP"]),
        (http, &[b"SSH-2.0-OpenSSH\r\n"], &["no HTTP (it begins \"S", "is it an HTTP proxy?"]),
        (http, &[b"\x15\x03\x01\0\x02\x02\x46"], &["speaks TLS"]),
        (http, &[b"\x05\xff"], &["no HTTP"]),
        (http, &[], &["without an answer", "HTTP proxy"]),
        (http, &[b"HTTP/1.1 200 OK\r\nVia", b""], &["in the middle"]),
        (http, &[b"HTTP/1.1 200 OK\r\n\r\nhello"], &["more than was asked"]),
        (http, &[b"HTTP/1.1 403 hunter2 YWRhOmh1bnRlcjI=\r\n\r\n"], &["***"]),
        (socks, &[b"\x05\xff"], &["takes no sign-in by user and password", "[Auth]"]),
        ("socks5://p.test", &[b"\x05\xff"], &["socks5://user:password@host:port", "[Auth]"]),
        ("socks5://p.test", &[b"\x05\x02"], &["not offered"]),
        (socks, &[b"\x05\x01"], &["not offered"]),
        (socks, &[b"\x05\x02", b"\x01\x01"], &["refused the sign-in of \"ada\"", "[Auth]"]),
        (socks, &[b"\x05\x02", b"\x01"], &["in the middle"]),
        (
            socks,
            &[b"\x05\0", b"\x05\x01\0\x01\0\0\0\0\0\0"],
            &["failed to connect to mail.example.test:443", "reply 1"],
        ),
        (socks, &[b"\x05\0", b"\x05\x02\0\x01\0\0\0\0\0\0"], &["forbids"]),
        (socks, &[b"\x05\0", b"\x05\x04\0\x01\0\0\0\0\0\0"], &["could not reach"]),
        (socks, &[b"\x05\0", b"\x05\x05\0\x01\0\0\0\0\0\0"], &["refused by", "nothing listens"]),
        (socks, &[b"\x05\0", b"\x05\x99"], &["reply 153"]),
        (socks, &[b"\x05\0", b"\x05\0\0\x09"], &["no SOCKS5"]),
        (socks, &[b"\x05\0", b"\x05\0\0\x01\0\0\0\0\0\0!"], &["more than was asked"]),
        (socks, &[b"HTTP/1.1 400 Bad Request\r\n"], &["answers in HTTP", "http://"]),
        (socks, &[b"\x04\x01"], &["no SOCKS5"]),
    ] {
        for size in [1, 2, 7, 4096] {
            let proxy = proxy(which);
            let (_, end) = play(&proxy, "mail.example.test", said, size);
            let text = end.expect_err(&format!("{said:?}"));
            assert!(text.contains(&format!("the proxy {proxy}")), "{text}");
            // What comes behind a refusal in the same piece is a page, and changes nothing.
            assert!(words.iter().all(|w| text.contains(w)), "{said:?}, {size}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("YWRhOmh1"), "{text}");
        }
    }
}

// A proxy that never ends its head, or talks nonsense, costs 16 KiB and no more.
#[test]
fn bad_bytes_are_bounded_and_never_a_panic() {
    let host = Host::parse("mail.example.test").unwrap();
    for text in ["http://ada:x@p.test:1", "socks5://ada:x@p.test"] {
        let proxy = proxy(text);
        let mut tunnel = Tunnel::new(&proxy, &host, 443, "x");
        let Turn::Send(_) = tunnel.turn() else { panic!("something to send") };
        let endless = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'a'));
        let read = endless.take_while(|b| tunnel.take(&[**b]).is_ok()).count();
        assert!(read <= MAX_HEAD + 1, "{read}");
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut tunnel = Tunnel::new(&proxy, &host, 443, "x");
            for _ in 0..10 {
                if matches!(tunnel.turn(), Turn::Done) {
                    break;
                }
                let good: [&[u8]; 5] = [b"\x05\x02", b"\x05\0", b"\x01\0", b"HTTP/1.1 200", b"\r\n\r\n"];
                let mut bytes = good[random.usize(..5)].to_vec();
                if random.bool() {
                    bytes.extend((0..random.usize(1..20)).map(|_| random.u8(..6)));
                }
                if tunnel.take(&bytes).is_err() {
                    break;
                }
            }
        }
    }
}
