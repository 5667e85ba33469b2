//! `options`: the table in its three forms, and the README's copy of it.

use std::path::Path;

use ewsnotify::Options;

use crate::support::{Terminal, command, run};

#[test]
fn every_option_is_listed_in_each_form() {
    let json = run(&["options"]);
    assert_eq!(json.code, Some(0));
    let lines = json.json();
    assert_eq!(lines.len(), Options::table().len());
    let (code, screen) = Terminal::start(command(&["options"])).end();
    assert_eq!(code, Some(0));
    for (spec, line) in Options::table().iter().zip(&lines) {
        assert_eq!(line["name"], spec.name);
        assert_eq!(line["meaning"], spec.meaning);
        assert!(screen.contains(spec.name) && screen.contains(spec.meaning), "{}: {screen}", spec.name);
    }
    let (_, at_terminal) = Terminal::start(command(&["options", "--json"])).end();
    assert_eq!(at_terminal.replace("\r\n", "\n").trim(), json.out);
}

// A README that tells old names or defaults is worse than none.
#[test]
fn the_readme_has_the_table() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md can be read");
    let (start, end) = ("<!-- options -->", "<!-- /options -->");
    let table =
        readme.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("the marks are there").0;
    let printed = run(&["options", "--markdown"]);
    assert_eq!(printed.code, Some(0));
    assert_eq!(
        table.trim(),
        printed.out.trim(),
        "put the output of `ewsnotify options --markdown` between the marks"
    );
}
