//! A company whose names all lead to one simulator on a random port.

#![allow(dead_code)] // Each test file is a crate of its own and uses what it needs.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use ewsnotify::sim::Sim;
use ewsnotify::sim::server::Builder;

pub const ADA: &str = "ada@example.test";
pub const NAMES: [&str; 3] = ["example.test", "autodiscover.example.test", "mail.example.test"];
pub const EWS: &str = "https://mail.example.test/EWS/Exchange.asmx";

/// A port of this machine's on which nobody listens, for as long as this lives.
pub struct ClosedPort(OwnedFd);

impl ClosedPort {
    pub fn new() -> ClosedPort {
        use rustix::net::{AddressFamily, SocketType, bind, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        ClosedPort(fd)
    }

    pub fn port(&self) -> u16 {
        SocketAddr::try_from(rustix::net::getsockname(&self.0).unwrap()).unwrap().port()
    }
}

pub struct Company {
    pub sim: Sim,
    closed: ClosedPort,
}

impl Company {
    /// One user, and Autodiscover that names `mail.example.test`.
    pub fn start(password: &str, change: impl FnOnce(Builder) -> Builder) -> Company {
        let sim = change(Sim::builder().names(NAMES).user(ADA, password)).start().unwrap();
        sim.exchange().set_ews_url(EWS);
        Company { sim, closed: ClosedPort::new() }
    }

    /// Option `connect_to`: https of every name goes to the simulator, and http goes nowhere.
    pub fn connect_to(&self) -> String {
        self.connect(self.sim.address().port(), self.closed.port())
    }

    /// The same with other ports.
    pub fn connect(&self, https: u16, http: u16) -> String {
        format!(":443:127.0.0.1:{https},:80:127.0.0.1:{http}")
    }

    pub fn closed(&self) -> u16 {
        self.closed.port()
    }

    pub fn ca_file(&self) -> String {
        self.sim.ca_file().unwrap().to_str().unwrap().to_owned()
    }

    /// How often Autodiscover was asked, and answered so.
    pub fn discovered(&self, status: u16) -> usize {
        let asked = |r: &&ewsnotify::sim::record::Request| {
            r.path.to_lowercase().starts_with("/autodiscover") && r.status == Some(status)
        };
        self.sim.requests().iter().filter(asked).count()
    }
}
