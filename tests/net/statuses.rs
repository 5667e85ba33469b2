//! Answers that are no answers: statuses, redirects, pages, compression.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ewsnotify::{Error, ErrorKind};

use crate::server::*;

/// What `call` and `open` say to the same answer.
fn errors(out: impl Into<Vec<u8>>) -> [Error; 2] {
    let server = Server::answering(out);
    let client = server.client();
    let both = [client.call().unwrap_err(), client.open().unwrap_err()];
    assert_eq!(client.counters.sockets_open(), 0);
    for e in &both {
        assert!(e.to_string().contains(&server.address.to_string()), "which server? {e}");
    }
    both
}

// What the engine does (give up, back off, ask for a sign-in) hangs on the kind.
#[test]
fn each_status_has_its_kind_and_says_what_to_do() {
    use ErrorKind::{Auth, Http};
    for (status, kind, retry, word) in [
        (400, Http, false, "understand"),
        (401, Auth, false, "password"),
        (403, Auth, false, "may not use EWS"),
        (404, Http, false, "url"),
        (405, Http, false, "url"),
        (407, Auth, false, "proxy"),
        (408, Http, true, "overloaded"),
        (413, Http, false, "too large"),
        (429, Http, true, "overloaded"),
        (440, Auth, false, "anew"),
        (456, Auth, false, "locked"),
        (500, Http, true, "nothing in it"),
        (502, Http, true, "overloaded"),
        (503, Http, true, "overloaded"),
        (504, Http, true, "overloaded"),
        (204, Http, true, "none of EWS"),
        (599, Http, true, "none of EWS"),
    ] {
        for e in errors(answer(&format!("{status} x"), "", "")) {
            assert_eq!((e.kind(), e.http_status()), (kind, Some(status)), "{e}");
            assert_eq!(e.is_retryable(), retry, "{e}");
            assert!(e.to_string().contains(word), "{e}");
        }
    }
}

// Exchange Online says in the status line where to unlock an account; who is not told cannot go there.
#[test]
fn a_locked_account_is_told_with_the_place_to_unlock_it() {
    for e in errors(answer("456 https://unlock.example.test/a?b=c", "", "")) {
        let text = e.to_string();
        assert!(text.contains("unlock it with a browser at https://unlock.example.test/a?b=c"), "{text}");
    }
    for words in ["Locked", "javascript:x", ""] {
        for e in errors(answer(&format!("456 {words}"), "", "")) {
            assert!(e.to_string().contains("sign in to it with a browser"), "{e}");
        }
    }
}

// An administrator finds the request by these; a stranger's bytes must not steer his terminal.
#[test]
fn telling_headers_are_in_the_text() {
    let headers = "X-CasErrorCode: EmptyAnchorMailbox\r\nrequest-id: 1b\r\nX-FEServer: EX1\r\nX-DiagInfo: a\x7fb\r\n\
                   WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"x\"\r\n";
    for e in errors(answer("401 Unauthorized", &headers.replace('\x7f', "\u{e9}"), "")) {
        let text = e.to_string();
        for part in
            ["x-caserrorcode: EmptyAnchorMailbox", "request-id: 1b", "x-feserver: EX1", "x-diaginfo: a", USER]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("the server offers Negotiate, NTLM, Basic"), "{text}");
    }
}

// An Exchange where Basic is switched off refuses every password: to check it would not help.
#[test]
fn a_server_without_basic_is_told_as_such() {
    for (offers, word) in [
        (
            "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n",
            "Set-WebServicesVirtualDirectory -BasicAuthentication $true",
        ),
        ("WWW-Authenticate: NTLM\r\nWWW-Authenticate: basic realm=x\r\n", "check name and password"),
        ("", "check name and password"),
    ] {
        for e in errors(answer("401 Unauthorized", offers, "")) {
            assert!(e.to_string().contains(word), "{offers}: {e}");
        }
    }
}

// Asking again before the server wants it makes throttling worse.
#[test]
fn retry_after_is_seconds_or_a_date() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (headers, wait) in [
        ("Retry-After: 120\r\n".to_owned(), Some(120)),
        (format!("{date}Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n"), Some(60)),
        (format!("{date}Retry-After: Sun, 06 Nov 1994 08:40:37 GMT\r\n"), Some(0)),
        ("Retry-After: 99999999999999999\r\n".to_owned(), Some(366 * 86_400)),
        ("Retry-After: soon\r\n".to_owned(), None),
        (String::new(), None),
    ] {
        for e in errors(answer("503 Busy", &headers, "")) {
            assert_eq!(e.retry_after(), wait.map(Duration::from_secs), "{headers}");
        }
    }
}

// A portal's login page with status 200 is what most wrong addresses give.
#[test]
fn a_page_instead_of_an_answer_is_told_as_such() {
    let page = format!("<!DOCTYPE html>\n<html>\x1b[31m{}</html>", "x".repeat(500));
    for e in errors(answer("200 OK", "Content-Type: text/html; charset=utf-8\r\n", &page)) {
        let text = e.to_string();
        assert_eq!((e.kind(), e.http_status()), (ErrorKind::Protocol, None), "{text}");
        assert!(text.contains("text/html; charset=utf-8") && text.contains("<!DOCTYPE html>\\n"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains(&"x".repeat(120)), "{text}");
    }
    for body in ["", "Gateway error", "<?xml version='1.0'?><!DOCTYPE html><html/>"] {
        let e = Server::answering(answer("200 OK", "", body)).client().call().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Protocol, "{e}");
        assert!(e.to_string().contains("no content type"), "{e}");
    }
    for e in errors(answer(
        "500 x",
        "Content-Type: text/html\r\n",
        "<html>Server Error in '/EWS' Application</html>",
    )) {
        assert_eq!((e.kind(), e.http_status(), e.is_retryable()), (ErrorKind::Http, Some(500), true));
        assert!(e.to_string().contains("Server Error in"), "{e}");
    }
}

// Error pages of debug builds and of proxies quote the request, password and all.
#[test]
fn a_page_that_quotes_the_request_leaks_nothing() {
    let page = format!("<html>Authorization: {SIGNATURE} that is {PASSWORD}</html>");
    for e in errors(answer("200 OK", "Content-Type: text/html\r\n", &page)) {
        assert!(e.to_string().contains("Authorization: Basic *** that is ***"), "{e}");
    }
}

// A compressed stream is held back until a block is full: events come minutes late. Better to know.
#[test]
fn a_compressed_answer_is_refused() {
    for e in errors(answer("200 OK", "Content-Type: text/xml\r\nContent-Encoding: gzip\r\n", "\u{1f}")) {
        assert_eq!(e.kind(), ErrorKind::Protocol);
        assert!(e.to_string().contains("gzip"), "{e}");
    }
    Server::answering(answer("200 OK", "Content-Encoding: identity\r\n", "<x/>")).client().call().unwrap();
}

/// A server that redirects `/EWS/Exchange.asmx` with `status` to `location`, and answers elsewhere; and what it was asked.
fn redirecting(status: u16, location: &str) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (keep, location) = (asked.clone(), location.to_owned());
    let server = Server::start(move |mut stream, _| {
        let here = stream.local_addr().unwrap().to_string();
        while let Some((head, body)) = read_request(&mut stream) {
            assert_eq!((header(&head, "authorization"), &body[..]), (Some(SIGNATURE), &b"<ask/>"[..]));
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let moved = path == "/EWS/Exchange.asmx" || path.starts_with("/loop");
            keep.lock().unwrap().push(format!("{} {path}", head.split(' ').next().unwrap()));
            let location = format!("Location: {}\r\n", location.replace("HERE", &here));
            stream
                .write_all(&if moved {
                    answer(&format!("{status} x"), &location, "moved")
                } else {
                    ok("<x/>")
                })
                .unwrap();
        }
    });
    (server, asked)
}

// Hybrid servers move a request within themselves; the POST must stay a POST, signed, on the same socket.
#[test]
fn redirects_within_the_server_are_followed() {
    for (status, location) in [
        (307, "/ews/exchange.asmx?a=b"),
        (308, "http://HERE/ews/exchange.asmx?a=b#x"),
        (302, "HTTP://HERE/ews/exchange.asmx?a=b"),
        (301, "/ews/exchange.asmx?a=b"),
    ] {
        let (server, asked) = redirecting(status, location);
        let client = server.client();
        client.call().unwrap_or_else(|e| panic!("{status} {location}: {e}"));
        assert_eq!(*asked.lock().unwrap(), ["POST /EWS/Exchange.asmx", "POST /ews/exchange.asmx?a=b"]);
        assert_eq!(server.accepted(), 1);
        drop(client.stream());
    }
}

// Another host, or plain http, would be handed the password.
#[test]
fn redirects_that_leave_the_server_are_not_followed() {
    let other = Server::answering(ok("<x/>"));
    for (status, location, shown) in [
        (307, format!("http://{}/EWS/Exchange.asmx", other.address), format!("http://{}/EWS", other.address)),
        (302, "https://HERE/EWS/Exchange.asmx".into(), "https://127.0.0.1".into()),
        (308, "//evil.example.test/x".into(), "//evil.example.test/x".into()),
        (307, "http://ada:hidden@HERE/x?hidden".into(), "http://127.0.0.1".into()),
        (307, "ftp://evil.example.test/\u{1b}x".into(), "ftp://evil.example.test/".into()),
        (307, "relative".into(), "relative".into()),
        (303, "/x".into(), "/x".into()),
        (307, String::new(), "redirect".into()),
    ] {
        let location = location.replace('\u{1b}', "%1b");
        let (server, asked) = redirecting(status, &location);
        let client = server.client();
        for e in [client.call().unwrap_err(), client.open().unwrap_err()] {
            assert_eq!((e.kind(), e.http_status()), (ErrorKind::Http, Some(status)), "{e}");
            assert!(!e.is_retryable(), "it leads there tomorrow too: {e}");
            assert!(e.to_string().contains(&shown) && !e.to_string().contains("hidden"), "{e}");
        }
        assert_eq!(asked.lock().unwrap().len(), 2);
    }
    assert_eq!(other.accepted(), 0);
}

// A loop of redirects would never end.
#[test]
fn redirects_have_a_bound() {
    let (server, asked) = redirecting(307, "/loop");
    let e = server.client().call().unwrap_err();
    assert!(e.to_string().contains("too many redirects, the last one to /loop"), "{e}");
    assert_eq!(asked.lock().unwrap().len(), 4);
}

// Exchange's front end says "busy" with a redirect to a page; its logon page means that Basic is off.
#[test]
fn redirects_with_a_meaning_of_their_own() {
    let (server, _) = redirecting(302, "/ews/genericerrorpage.htm?aspxerrorpath=/ews/exchange.asmx");
    let e = server.client().call().unwrap_err();
    assert_eq!((e.kind(), e.http_status(), e.is_retryable()), (ErrorKind::Protocol, Some(302), true));
    assert!(e.to_string().contains("error page"), "{e}");
    let (server, _) = redirecting(302, "https://HERE/owa/auth/logon.aspx?url=x");
    let e = server.client().call().unwrap_err();
    assert_eq!((e.kind(), e.is_retryable()), (ErrorKind::Auth, false));
    assert!(e.to_string().contains("logon page"), "{e}");
}
