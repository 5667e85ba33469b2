//! Programs that use the library, in processes of their own, which are killed and fork. They are this test's program once more.
#![cfg(feature = "sim")]

mod baseline;
mod forks;
mod host;
mod kills;
