//! Accepting connections, a thread each; the thread of the schedule; ending them all.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;

use super::fault::Cut;
use super::record::End;
use super::script::At;
use super::shared::Shared;
use super::wire::Wire;
use super::{answer, failed};
use crate::Result;

/// The server's own threads.
#[derive(Debug)]
pub(super) struct Running {
    // Closing it wakes the accepting thread.
    wake: Option<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits for all threads; [`Shared::stop`] must have been called.
    pub(super) fn join(&mut self) {
        self.wake = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(super) fn start(listener: TcpListener, shared: &Arc<Shared>, schedule: Vec<At>) -> Result<Running> {
    listener.set_nonblocking(true).map_err(|e| failed("setting the port up", e))?;
    let (asleep, wake) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed("making a pipe", e))?;
    let mut running = Running { wake: Some(wake), threads: Vec::new() };
    let of_accept = shared.clone();
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        thread.map_err(|e| failed("starting a thread", e))
    };
    running.threads.push(spawn("sim-accept", Box::new(move || accept_all(&listener, &asleep, &of_accept)))?);
    let of_push = shared.clone();
    match spawn("sim-push", Box::new(move || super::push::run(&of_push))) {
        Ok(thread) => running.threads.push(thread),
        Err(e) => {
            shared.stop();
            running.join();
            return Err(e);
        }
    }
    if !schedule.is_empty() {
        let of_schedule = shared.clone();
        match spawn("sim-schedule", Box::new(move || keep(schedule, &of_schedule))) {
            Ok(thread) => running.threads.push(thread),
            Err(e) => {
                shared.stop();
                running.join();
                return Err(e);
            }
        }
    }
    Ok(running)
}

fn accept_all(listener: &TcpListener, asleep: &OwnedFd, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.stopped() {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(asleep, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        match listener.accept() {
            Ok((sock, _)) if shared.refuses() => reset(&sock),
            Ok((sock, _)) => {
                // Out of threads: the connection is closed, the server lives.
                if let Ok(thread) = serve(sock, shared) {
                    threads.extend(thread);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors, most likely: the pause keeps it from spinning.
            Err(_) => {
                shared.pause(Instant::now() + Duration::from_millis(20));
            }
        }
        threads.retain(|t| !t.is_finished());
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(sock: TcpStream, shared: &Arc<Shared>) -> io::Result<Option<JoinHandle<()>>> {
    sock.set_nonblocking(true)?;
    sock.set_nodelay(true)?;
    let Some(conn) = shared.open(sock) else { return Ok(None) };
    let guard = Guard { shared: shared.clone(), conn: Some(conn), end: End::Client };
    shared.thread_started();
    let run = move || {
        // Moved in whole, so that it ends the connection also when the thread could not start or panics.
        let mut guard = guard;
        if let Some(conn) = &guard.conn {
            let end = match Wire::new(conn.clone(), guard.shared.clone()) {
                Ok(mut wire) => match answer::serve(&mut wire) {
                    Ok(()) => {
                        wire.good_bye();
                        End::Finished
                    }
                    Err(end) => end,
                },
                Err(end) => end,
            };
            guard.end = end;
        }
    };
    std::thread::Builder::new().name("sim-connection".to_owned()).spawn(run).map(Some)
}

struct Guard {
    shared: Arc<Shared>,
    conn: Option<Arc<super::shared::Conn>>,
    end: End,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            match self.end {
                End::Cut(Cut::Reset) => reset(&conn.sock),
                // Bytes left unread would turn the FIN into a RST.
                End::Cut(Cut::Fin) | End::Finished => {
                    let mut rest = [0; 4096];
                    while matches!(io::Read::read(&mut &conn.sock, &mut rest), Ok(n) if n > 0) {}
                }
                _ => {}
            }
            self.shared.close(conn);
        }
        self.shared.thread_ended();
    }
}

// The RST goes out when the socket is closed.
fn reset(sock: &TcpStream) {
    let _ = set_socket_linger(sock, Some(Duration::ZERO));
}

fn keep(mut schedule: Vec<At>, shared: &Shared) {
    let start = Instant::now();
    schedule.sort_by_key(|at| at.after);
    for at in schedule {
        if !shared.pause(start + at.after) {
            return;
        }
        shared.control(&at.control);
    }
}
