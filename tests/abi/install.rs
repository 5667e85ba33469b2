//! The library as its users have it: installed with `make install`, found by pkg-config, CMake and the loader.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{example, library};

/// Runs something to its end; what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn install(prefix: &Path, destdir: &Path) {
    // The library of this build in place of a release build, which takes minutes.
    run(Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["install", "CARGO=true"])
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("DESTDIR={}", destdir.display()))
        .arg(format!("TARGET={}", library().parent().unwrap().display())));
}

/// Where it is installed for these tests.
pub fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-prefix");
        let _ = std::fs::remove_dir_all(&prefix);
        install(&prefix, Path::new(""));
        prefix
    })
}

/// What pkg-config says of it.
pub fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")).args(arguments).arg("ewsnotify");
    run(&mut command).split_whitespace().map(str::to_owned).collect()
}

/// Compiles a C or C++ program against what is installed.
pub fn compile(compiler: &str, source: &Path, flags: &[&str], into: &Path) -> PathBuf {
    let program = into.join(source.file_stem().unwrap());
    run(Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror"])
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(pkg_config(&["--cflags", "--libs"])));
    program
}

/// Builds the C++ example with CMake, outside of the tree.
pub fn cmake(into: &Path) -> PathBuf {
    let source = into.join("source");
    std::fs::create_dir_all(&source).unwrap();
    for file in ["CMakeLists.txt", "watch.cpp"] {
        std::fs::copy(example("cpp").join(file), source.join(file)).unwrap();
    }
    let build = into.join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(&source)
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    build.join("watch")
}

/// Packagers install below another root than the one that it is for, and take away again what they installed.
#[test]
fn a_package_has_the_paths_of_its_prefix() {
    let dir = tempfile::tempdir().unwrap();
    install(Path::new("/opt/ewsn"), dir.path());
    let lib = dir.path().join("opt/ewsn/lib");
    let version = env!("CARGO_PKG_VERSION");
    let soname = format!("libewsnotify.so.{}", version.rsplit_once('.').unwrap().0);
    assert_eq!(std::fs::read_link(lib.join("libewsnotify.so")).unwrap().to_str(), Some(&*soname));
    assert!(lib.join(format!("libewsnotify.so.{version}")).is_file());
    let files = [
        lib.join("pkgconfig/ewsnotify.pc"),
        lib.join("cmake/ewsnotify/ewsnotify-config.cmake"),
        dir.path().join("opt/ewsn/include/ewsnotify_php.h"),
    ];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("/opt/ewsn") && !text.contains(dir.path().to_str().unwrap()),
            "{}: {text}",
            file.display()
        );
    }
    assert_eq!(pkg_config(&["--modversion"]), [version]);
    run(Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["uninstall", "PREFIX=/opt/ewsn"])
        .arg(format!("DESTDIR={}", dir.path().display())));
    let left = run(Command::new("find").arg(dir.path()).args(["-type", "f", "-o", "-type", "l"]));
    assert_eq!(left, "");
}

/// A project in PHP or Python takes the wrapper from where it is installed; one that copies it without its header would be left with a type
/// error.
#[test]
fn the_installed_wrappers_work_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let share = prefix().join("share/ewsnotify");
    let started = |program: &std::ffi::OsStr| {
        let mut command = Command::new(program);
        command
            .current_dir(dir.path())
            .env("LD_LIBRARY_PATH", prefix().join("lib"))
            .env_remove("EWSNOTIFY_HEADER");
        command
    };
    let version = env!("CARGO_PKG_VERSION");
    let script = |wrapper: &Path| {
        let text = format!("require '{}'; echo Ewsnotify\\Client::version();", wrapper.display());
        let mut command = started("php".as_ref());
        command.args(["-r", &text]);
        command
    };
    assert_eq!(run(&mut script(&share.join("php/Ewsnotify.php"))), version);
    let python = std::env::var_os("EWSN_PYTHON").unwrap_or_else(|| "python3".into());
    let text = "import ewsnotify; print(ewsnotify.version())";
    let said = run(started(&python).args(["-c", text]).env("PYTHONPATH", share.join("python")));
    assert_eq!(said.trim_end(), version);

    let alone = dir.path().join("Ewsnotify.php");
    std::fs::copy(share.join("php/Ewsnotify.php"), &alone).unwrap();
    let output = script(&alone).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("ewsnotify_ffi.h: copy it there"), "{said}");
}

/// A program would be built against a version that it was not made for.
#[test]
fn cmake_knows_the_version() {
    let (major, rest) = env!("CARGO_PKG_VERSION").split_once('.').unwrap();
    let minor: u32 = rest.split('.').next().unwrap().parse().unwrap();
    for (wanted, found) in [(format!("{major}.{minor}"), true), (format!("{major}.{}", minor + 1), false)] {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "cmake_minimum_required(VERSION 3.13)\nproject(p C)\nfind_package(ewsnotify {wanted} REQUIRED)\n"
        );
        std::fs::write(dir.path().join("CMakeLists.txt"), text).unwrap();
        let output = Command::new("cmake")
            .arg("-S")
            .arg(dir.path())
            .arg("-B")
            .arg(dir.path().join("build"))
            .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix().display()))
            .output()
            .unwrap();
        assert_eq!(output.status.success(), found, "{wanted}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// cargo-c, which packagers use, would make another library than the Makefile.
#[test]
fn the_metadata_of_cargo_c_says_what_the_makefile_does() {
    let manifest = run(Command::new(env!("CARGO")).current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let capi = &manifest["packages"][0]["metadata"]["capi"];
    assert_eq!(capi["library"]["name"], "ewsnotify");
    assert_eq!(capi["library"]["version_suffix_components"], 2, "the SONAME of build.rs");
    assert_eq!(capi["pkg_config"]["filename"], "ewsnotify");
    assert_eq!(capi["header"]["generation"], false, "the headers are checked in");
    for asset in capi["install"]["include"]["asset"].as_array().unwrap() {
        assert!(asset["from"].as_str().unwrap().starts_with("include/"), "{asset}");
    }
}
