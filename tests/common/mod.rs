//! For tests that talk to the simulator: start one, and a raw HTTP client that hides nothing of the bytes.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use ewsnotify::sim::Sim;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

/// The user of [`start_sim`].
pub const ADA: &str = "ada@example.test";
/// Her password.
pub const SECRET: &str = "s3cret pässword";
/// No test needs so long; it keeps a broken one from hanging.
pub const LONG: Duration = Duration::from_secs(30);

/// A simulator in Exchange's style with TLS, and one user.
pub fn start_sim() -> Sim {
    Sim::builder().user(ADA, SECRET).start().unwrap()
}

/// A mail of a few lines.
pub fn mail(subject: &str) -> Vec<u8> {
    format!("From: Bob <bob@example.test>\r\nTo: {ADA}\r\nSubject: {subject}\r\n\r\nHello.\r\n").into_bytes()
}

/// A SOAP envelope round the child of its body.
pub fn soap(child: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><soap:Envelope \
         xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><soap:Header>\
         <t:RequestServerVersion Version=\"Exchange2013_SP1\"/></soap:Header><soap:Body>{child}</soap:Body>\
         </soap:Envelope>"
    )
}

/// A request for the Inbox.
pub fn get_folder() -> String {
    soap(
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:FolderIds>\
         <t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>",
    )
}

/// A streaming subscription to NewMail in the Inbox.
pub fn subscribe() -> String {
    soap(
        "<m:Subscribe><m:StreamingSubscriptionRequest><t:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/>\
         </t:FolderIds><t:EventTypes><t:EventType>NewMailEvent</t:EventType></t:EventTypes>\
         </m:StreamingSubscriptionRequest></m:Subscribe>",
    )
}

/// A stream for one subscription, for half an hour.
pub fn get_streaming_events(id: &str) -> String {
    soap(&format!(
        "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>{id}</t:SubscriptionId></m:SubscriptionIds>\
         <m:ConnectionTimeout>30</m:ConnectionTimeout></m:GetStreamingEvents>"
    ))
}

/// The text of the first element of this local name.
pub fn text_of(xml: &str, name: &str) -> Option<String> {
    let at = xml.match_indices(name).find(|(i, _)| {
        let before = xml[..*i].chars().next_back();
        let after = xml[i + name.len()..].chars().next();
        matches!(before, Some(':' | '<')) && matches!(after, Some('>' | ' '))
    })?;
    let inner = xml[at.0..].split_once('>')?.1;
    Some(inner.split_once('<')?.0.to_owned())
}

/// `Authorization: Basic` for a user.
pub fn basic(user: &str, password: &str) -> String {
    let plain = format!("{user}:{password}");
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(plain))
}

/// A client of one connection.
pub struct Raw {
    link: Link,
    /// What came and was not taken.
    pub inbox: Vec<u8>,
}

enum Link {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

/// An answer's head and its body, without chunk framing.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The first header of this name.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|l| l.split_once(':'));
    lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
}

/// TLS for a client that trusts this authority only.
pub fn tls_config(ca_pem: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Arc::new(
        builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

impl Raw {
    /// Connects, with TLS if the simulator has it.
    pub fn connect(sim: &Sim) -> Raw {
        let sock = TcpStream::connect(sim.address()).unwrap();
        sock.set_read_timeout(Some(LONG)).unwrap();
        sock.set_write_timeout(Some(LONG)).unwrap();
        sock.set_nodelay(true).unwrap();
        let link = match sim.ca_pem() {
            None => Link::Plain(sock),
            Some(pem) => {
                let name = ServerName::try_from("localhost").unwrap();
                let tls = rustls::ClientConnection::new(tls_config(pem), name).unwrap();
                Link::Tls(Box::new(rustls::StreamOwned::new(tls, sock)))
            }
        };
        Raw { link, inbox: Vec::new() }
    }

    /// The socket below.
    pub fn sock(&self) -> &TcpStream {
        match &self.link {
            Link::Plain(sock) => sock,
            Link::Tls(tls) => &tls.sock,
        }
    }

    /// The TLS version that was agreed on.
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.link {
            Link::Plain(_) => None,
            Link::Tls(tls) => tls.conn.protocol_version(),
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.link {
            Link::Plain(sock) => sock.write_all(bytes),
            Link::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Posts an envelope as Ada.
    pub fn post(&mut self, envelope: &str) {
        self.post_with(&basic(ADA, SECRET), envelope);
    }

    /// Posts an envelope with these header lines (each with its line end).
    pub fn post_with(&mut self, lines: &str, envelope: &str) {
        let request = format!(
            "POST /EWS/Exchange.asmx HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml; charset=utf-8\r\n\
             Content-Length: {}\r\n{lines}\r\n{envelope}",
            envelope.len()
        );
        self.send(request.as_bytes()).unwrap();
    }

    /// Posts an envelope as Ada and reads the answer.
    pub fn ask(&mut self, envelope: &str) -> Reply {
        self.post(envelope);
        self.reply()
    }

    /// Reads more; 0 is the end.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        let n = match &mut self.link {
            Link::Plain(sock) => sock.read(&mut piece)?,
            Link::Tls(tls) => tls.read(&mut piece)?,
        };
        self.inbox.extend_from_slice(&piece[..n]);
        Ok(n)
    }

    /// Reads up to and with this mark.
    pub fn take_until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.inbox, mark) {
                return Ok(self.inbox.drain(..at + mark.len()).collect());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads so many bytes.
    pub fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.inbox.len() < n {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.inbox.drain(..n).collect())
    }

    /// Reads to the end, however it comes: what came, and the error that ended it.
    pub fn take_all(&mut self) -> (Vec<u8>, Option<io::ErrorKind>) {
        let end = loop {
            match self.fill() {
                Ok(0) => break None,
                Ok(_) => {}
                Err(e) => break Some(e.kind()),
            }
        };
        (std::mem::take(&mut self.inbox), end)
    }

    /// Reads a head: the status and the text.
    pub fn head(&mut self) -> io::Result<(u16, String)> {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")?).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, head))
    }

    /// Reads a chunk; empty is the last.
    pub fn chunk(&mut self) -> io::Result<String> {
        let size = String::from_utf8(self.take_until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let chunk = self.take(size)?;
        assert_eq!(self.take(2)?, b"\r\n");
        Ok(String::from_utf8(chunk).unwrap())
    }

    /// Reads a whole answer.
    pub fn reply(&mut self) -> Reply {
        let (status, head) = self.head().unwrap();
        let mut body = String::new();
        match header(&head, "content-length") {
            Some(n) => body = String::from_utf8(self.take(n.parse().unwrap()).unwrap()).unwrap(),
            None => loop {
                let chunk = self.chunk().unwrap();
                if chunk.is_empty() {
                    break;
                }
                body.push_str(&chunk);
            },
        }
        Reply { status, head, body }
    }

    /// Subscribes and opens the stream on this connection, up to its first envelope. Gives the id.
    pub fn open_stream(&mut self) -> String {
        let id = text_of(&self.ask(&subscribe()).body, "SubscriptionId").unwrap();
        self.reopen_stream(&id);
        id
    }

    /// Opens the stream of a subscription on this connection, up to its first envelope.
    pub fn reopen_stream(&mut self, id: &str) {
        self.post(&get_streaming_events(id));
        assert_eq!(self.head().unwrap().0, 200);
        assert!(self.chunk().unwrap().contains("<m:ConnectionStatus>OK</m:ConnectionStatus>"));
    }

    /// Closes the connection.
    pub fn close(self) {
        let _ = self.sock().shutdown(Shutdown::Both);
    }
}
