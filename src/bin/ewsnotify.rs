//! The command `ewsnotify`.
fn main() {}
