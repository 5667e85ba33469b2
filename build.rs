//! How the shared library is linked: its name for the loader, and that it stays when a host lets it go.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let env = |name| std::env::var(name).unwrap_or_default();
    if env("CARGO_CFG_TARGET_FAMILY") != "unix" || env("CARGO_CFG_TARGET_VENDOR") == "apple" {
        return;
    }
    // Before 1.0 a minor version may break the interface.
    let name =
        format!("libewsnotify.so.{}.{}", env("CARGO_PKG_VERSION_MAJOR"), env("CARGO_PKG_VERSION_MINOR"));
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
    // PHP closes the library as soon as its FFI object goes, also at the end of a script: our threads would run on nothing.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
