//! What the tests of `proto` share.
#![allow(dead_code)]

#[path = "../common/beside.rs"]
pub mod beside;
pub mod forms;
