//! Where a password comes from: the environment, stdin, or somebody at a terminal. Never from the command line, which
//! every user of the machine can read.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Failure, Outcome};

const LONGEST: usize = 4096;

/// Gets the password. `env` is the name of a variable, `user` is for the question at a terminal.
pub fn read(env: Option<&str>, stdin: bool, user: &str) -> Outcome<Zeroizing<String>> {
    let password = match env {
        Some(name) => from_env(name, "--password-env")?,
        None if stdin => line()?,
        None if io::stdin().is_terminal() => ask(user)?,
        None => {
            return Err(Failure::usage(
                "no password: name an environment variable that holds it (--password-env EWS_PASSWORD), or pipe it in \
                 (--password-stdin); at a terminal it is asked for",
            ));
        }
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    Ok(password)
}

/// What the environment variable holds whose name was given to this flag.
pub fn from_env(name: &str, flag: &str) -> Outcome<Zeroizing<String>> {
    // The name is not told: somebody may have given the secret in its place.
    let none = |_| {
        let text =
            format!("there is no environment variable of the name given to {flag}, or it is not UTF-8");
        Failure::usage(text)
    };
    std::env::var(name).map(Zeroizing::new).map_err(none)
}

/// The first line of stdin.
fn line() -> Outcome<Zeroizing<String>> {
    // Letter by letter: the buffer of `stdin()` is not wiped.
    let (mut bytes, mut letter) = (Zeroizing::new(Vec::with_capacity(LONGEST)), Zeroizing::new([0]));
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed(format!("cannot read the password from standard input: {e}"))
    };
    while bytes.len() < LONGEST {
        match rustix::io::read(io::stdin(), &mut letter[..]) {
            Ok(0) => break,
            Ok(_) if letter[0] == b'\n' => break,
            Ok(_) => bytes.push(letter[0]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed(&e)),
        }
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed(&"it is not UTF-8"))?;
    Ok(Zeroizing::new(text.trim_end_matches('\r').to_owned()))
}

fn ask(user: &str) -> Outcome<Zeroizing<String>> {
    let _silence = Silence::begin()?;
    let mut err = io::stderr();
    let _ = write!(err, "Password of {}: ", crate::text::clean(user)).and_then(|()| err.flush());
    let password = line();
    // The line's end was not shown either.
    let _ = writeln!(err);
    password
}

/// The terminal does not show what is typed, until this goes.
struct Silence(Termios);

impl Silence {
    fn begin() -> Outcome<Silence> {
        let failed = |e| {
            Failure::failed(format!("cannot hide what is typed at this terminal: {e}; use --password-env"))
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
