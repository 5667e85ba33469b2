//! A proxy of both kinds that wants a sign-in: CONNECT, and SOCKS5.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// What a proxy does with whoever has signed in: nothing said means that it connects.
pub type Says = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// A proxy of both kinds.
pub fn proxy(says: Says) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for sock in listener.incoming().flatten() {
            let says = says.clone();
            thread::spawn(move || serve(sock, &says));
        }
    });
    port
}

fn serve(mut sock: TcpStream, says: &Says) -> io::Result<()> {
    let mut first = [0; 1];
    sock.peek(&mut first)?;
    if first[0] != 5 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            sock.read_exact(&mut first)?;
            head.push(first[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        if let Some(answer) = says(&head) {
            return sock.write_all(&answer);
        }
        let place = head.split(' ').nth(1).unwrap_or_default().to_owned();
        sock.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")?;
        return pump(sock, TcpStream::connect(place)?);
    }
    let piece = |sock: &mut TcpStream, n: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        sock.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = piece(&mut sock, 2)?[1];
    piece(&mut sock, methods.into())?;
    sock.write_all(&[5, 2])?;
    let mut said = String::new();
    piece(&mut sock, 1)?;
    for _ in 0..2 {
        let n = piece(&mut sock, 1)?[0];
        said += &String::from_utf8_lossy(&piece(&mut sock, n.into())?);
        said.push(' ');
    }
    if let Some(answer) = says(&said) {
        return sock.write_all(&answer);
    }
    sock.write_all(&[1, 0])?;
    let asked = piece(&mut sock, 10)?;
    assert_eq!(asked[3], 1, "connect_to names an address");
    let port = u16::from_be_bytes([asked[8], asked[9]]);
    sock.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])?;
    pump(sock, TcpStream::connect(("127.0.0.1", port))?)
}

/// Passes bytes on in both directions until both have ended.
pub fn pump(a: TcpStream, b: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (a.try_clone()?, b.try_clone()?);
    let other = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (b, a);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    other.join().map_err(|_| io::ErrorKind::Other.into())
}
