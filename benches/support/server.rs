//! A server that answers as Exchange does and costs as little as can be, for the benches.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What is written on a stream once [`Server::go`] was called.
#[derive(Clone, Copy)]
pub enum Plan {
    /// So many events, an envelope each, as fast as the socket takes them.
    Burst(usize),
    /// So many events, one at each interval.
    Paced(usize, Duration),
    /// Nothing.
    Idle,
}

pub struct Server {
    pub address: SocketAddr,
    pub url: String,
    pub ca_file: Option<String>,
    shared: Arc<Shared>,
    _ca: Option<tempfile::NamedTempFile>,
}

struct Shared {
    plan: Plan,
    tls: Option<Arc<rustls::ServerConfig>>,
    going: (Mutex<bool>, Condvar),
    sent: Mutex<Vec<Instant>>,
    stopped: AtomicBool,
    cpu_ns: AtomicU64,
    done: (Mutex<bool>, Condvar),
}

impl Server {
    pub fn start(tls: bool, plan: Plan) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, ca) = if tls { certificate() } else { (None, None) };
        let shared = Arc::new(Shared {
            plan,
            tls: config,
            going: Default::default(),
            sent: Mutex::default(),
            stopped: AtomicBool::new(false),
            cpu_ns: AtomicU64::new(0),
            done: Default::default(),
        });
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                for socket in listener.incoming() {
                    if shared.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let shared = shared.clone();
                    let socket = socket.unwrap();
                    std::thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn(move || accept(&shared, socket))
                        .unwrap();
                }
            }
        });
        let scheme = if tls { "https" } else { "http" };
        Server {
            address,
            url: format!("{scheme}://localhost:{}/EWS/Exchange.asmx", address.port()),
            ca_file: ca.as_ref().map(|f: &tempfile::NamedTempFile| f.path().to_str().unwrap().to_owned()),
            shared,
            _ca: ca,
        }
    }

    /// Streams may begin to tell events.
    pub fn go(&self) {
        *self.shared.going.0.lock().unwrap() = true;
        self.shared.going.1.notify_all();
    }

    /// When each event was written, once the stream has written all.
    pub fn sent(&self) -> Vec<Instant> {
        let mut done = self.shared.done.0.lock().unwrap();
        while !*done {
            done = self.shared.done.1.wait(done).unwrap();
        }
        self.shared.sent.lock().unwrap().clone()
    }

    /// CPU of the thread that writes the stream.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_ns.load(Ordering::SeqCst))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.go();
        let _ = TcpStream::connect(self.address);
    }
}

fn certificate() -> (Option<Arc<rustls::ServerConfig>>, Option<tempfile::NamedTempFile>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(key.cert.pem().as_bytes()).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    (Some(Arc::new(config)), Some(file))
}

fn accept(shared: &Shared, socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    match &shared.tls {
        Some(config) => {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let _ = serve(shared, rustls::StreamOwned::new(tls, socket));
        }
        None => {
            let _ = serve(shared, socket);
        }
    }
}

fn serve(shared: &Shared, socket: impl Read + Write) -> std::io::Result<()> {
    let mut socket = BufReader::with_capacity(4096, socket);
    loop {
        let mut operation = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(action) = lower.strip_prefix("soapaction:") {
                operation = action.trim().trim_matches('"').rsplit('/').next().unwrap_or_default().to_owned();
            } else if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap_or(0);
            } else if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut (&mut socket).take(length), &mut std::io::sink())?;
        let body = match operation.as_str() {
            "getstreamingevents" => return stream(shared, socket.get_mut()),
            "getfolder" => format!(
                "<m:GetFolderResponse {NS}><m:ResponseMessages><m:GetFolderResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
                 <m:Folders><t:Folder><t:FolderId Id=\"{FOLDER}\"/></t:Folder></m:Folders></m:GetFolderResponseMessage></m:ResponseMessages></m:GetFolderResponse>"
            ),
            "subscribe" => {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                format!(
                    "<m:SubscribeResponse {NS}><m:ResponseMessages><m:SubscribeResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
                     <m:SubscriptionId>{SUBSCRIPTION}{}</m:SubscriptionId></m:SubscribeResponseMessage></m:ResponseMessages></m:SubscribeResponse>",
                    if matches!(shared.plan, Plan::Idle) { NEXT.fetch_add(1, Ordering::SeqCst) } else { 0 }
                )
            }
            "syncfolderitems" => format!(
                "<m:SyncFolderItemsResponse {NS}><m:ResponseMessages><m:SyncFolderItemsResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
                 <m:SyncState>H4sIAAA=</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes/></m:SyncFolderItemsResponseMessage></m:ResponseMessages></m:SyncFolderItemsResponse>"
            ),
            _ => format!(
                "<m:UnsubscribeResponse {NS}><m:ResponseMessages><m:UnsubscribeResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
                 </m:UnsubscribeResponseMessage></m:ResponseMessages></m:UnsubscribeResponse>"
            ),
        };
        let envelope = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>"
        );
        let socket = socket.get_mut();
        write!(
            socket,
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{envelope}",
            envelope.len()
        )?;
        socket.flush()?;
    }
}

const NS: &str = "xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"";
const FOLDER: &str = "AAMkADBkOGY3YzEyLTRjNTEtNGU0Ny1iZjY2LTE5MmI1ZjZmNzQ4OAAuAAAAAABT2Qd1PjCkQpVYrA7GiL8CAQB3h9lYJ3nZTpXJmVJ0s0CJAAAAAAEMAAA=";
const SUBSCRIPTION: &str = "JgBleGNoLWJlLTAxLmV4YW1wbGUuY29tEAAAAJ5hFbHnKSBOmYr3uYJ4h9Zk";

fn envelope(message: &str) -> String {
    format!(
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Header xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"1\" MajorBuildNumber=\"2507\" MinorBuildNumber=\"44\" Version=\"V2017_07_11\" xmlns=\"http://schemas.microsoft.com/exchange/services/2006/types\" /></soap11:Header>\
         <soap11:Body xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><m:GetStreamingEventsResponse xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" {NS}><m:ResponseMessages>\
         <m:GetStreamingEventsResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{message}</m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse></soap11:Body></Envelope>"
    )
}

fn event(n: usize) -> String {
    envelope(&format!(
        "<m:Notifications><m:Notification><t:SubscriptionId>{SUBSCRIPTION}0</t:SubscriptionId><t:CreatedEvent><t:TimeStamp>2026-11-22T09:30:00Z</t:TimeStamp>\
         <t:ItemId Id=\"AAMkADBkOGY3YzEyLTRjNTEtNGU0Ny1iZjY2LTE5MmI1ZjZmNzQ4OABGAAAAAABT2Qd1PjCkQpVYrA7GiL8CBwB3h9lYJ3nZTpXJmVJ0s0CJAAAAAAEMAAB3h9lYJ3nZTpXJmVJ0{n:08}AAA=\" ChangeKey=\"CQAAAA==\" />\
         <t:ParentFolderId Id=\"{FOLDER}\" ChangeKey=\"AQAAAA==\" /></t:CreatedEvent></m:Notification></m:Notifications>"
    ))
}

fn stream(shared: &Shared, socket: &mut impl Write) -> std::io::Result<()> {
    write!(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-NoBuffering: 1\r\n\r\n")?;
    chunk(socket, &envelope("<m:ConnectionStatus>OK</m:ConnectionStatus>"))?;
    let (count, pause) = match shared.plan {
        Plan::Burst(count) => (count, Duration::ZERO),
        Plan::Paced(count, pause) => (count, pause),
        Plan::Idle => (0, Duration::ZERO),
    };
    let envelopes: Vec<String> = (0..count).map(event).collect();
    let mut going = shared.going.0.lock().unwrap();
    while !*going {
        going = shared.going.1.wait(going).unwrap();
    }
    drop(going);
    let cpu = thread_cpu();
    let began = Instant::now();
    let mut sent = Vec::with_capacity(count);
    for (n, envelope) in envelopes.iter().enumerate() {
        if let Some(wait) = (pause * n as u32).checked_sub(began.elapsed()) {
            std::thread::sleep(wait);
        }
        sent.push(Instant::now());
        chunk(socket, envelope)?;
    }
    shared.cpu_ns.fetch_add((thread_cpu() - cpu).as_nanos() as u64, Ordering::SeqCst);
    *shared.sent.lock().unwrap() = sent;
    *shared.done.0.lock().unwrap() = true;
    shared.done.1.notify_all();
    // Until the client goes.
    while !shared.stopped.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn chunk(socket: &mut impl Write, text: &str) -> std::io::Result<()> {
    let mut bytes = format!("{:x}\r\n", text.len()).into_bytes();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    socket.write_all(&bytes)?;
    socket.flush()
}

fn thread_cpu() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
