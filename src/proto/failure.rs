//! Response messages and faults that tell of a failure, as errors.

use super::{Action, Fault, Response, ResponseClass, ResponseCode, action};
use crate::{Error, ErrorKind};

impl<T> Response<T> {
    /// The error that this message tells of, if it is one; `operation` is for its text.
    pub fn error(&self, operation: &str) -> Option<Error> {
        (self.class == ResponseClass::Error)
            .then(|| failure(operation, &self.code, self.text.as_deref(), self.back_off))
    }
}

/// A fault as an error; `operation` is for its text.
pub fn fault_error(fault: &Fault, operation: &str) -> Error {
    failure(operation, &fault.code, fault.text.as_deref(), fault.back_off)
}

fn failure(
    operation: &str,
    code: &ResponseCode,
    text: Option<&str>,
    back_off: Option<std::time::Duration>,
) -> Error {
    let kind = if action(code.as_str()) == Action::SignIn { ErrorKind::Auth } else { ErrorKind::Server };
    // The server's text is its own: control characters have no place in a log.
    let text: String =
        text.unwrap_or("no text").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Error::new(kind, format!("{operation}: the server answered {}: {text}", code.as_str()))
        .with_code(code.as_str())
        .with_retry_after(back_off)
}
