//! A user signs in to hosts in C, Python and PHP: on another device, and with a browser that comes back to another process than the one
//! that it set out from; and a watch goes on from there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ewsnotify::sim::Sim;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::example;
use super::hosts::{ADA, Host, host, mail, python, python_at_a_terminal};
use super::install::compile;
use super::program;
use super::programs::fine;

const BACK: &str = "https://desk.example.test/signed_in.php";

fn issuer() -> Sim {
    let sim = Sim::builder().user(ADA, "not used").start().unwrap();
    sim.issuer().register("desk", Some("desk-secret-0815"), None);
    sim
}

/// Those of the watch: a web host proves who it is by a secret.
fn options(sim: &Sim, store: &Path) -> Value {
    json!({
        "url": sim.url(), "ca_file": sim.ca_file().unwrap(), "user": ADA, "events": "NewMail",
        "oauth_authority": sim.authority(), "oauth_client_id": "desk", "oauth_client_secret": "desk-secret-0815",
        "oauth_grant": "refresh_token", "oauth_token_store": store,
    })
}

/// The worker that was waiting for a sign-in has one.
fn is_watched(sim: &Sim, options: &Value) {
    let mut worker = python();
    worker.arg(example("python/watch.py")).env("EWSNOTIFY_OPTIONS", options.to_string());
    let mut worker = Host::start(&mut worker);
    worker.until("Connected");
    let id = sim.exchange().deliver(ADA, &mail(1)).unwrap();
    assert_eq!(worker.until("NewMail")["item_id"], id.as_str());
    worker.stop();
}

/// On another device: the user says yes; somebody says no; nobody comes, and the administrator ends it.
fn signs_in(command: impl Fn() -> Command) {
    let sim = issuer();
    let dir = tempfile::tempdir().unwrap();
    let options = options(&sim, dir.path());
    let begin = || {
        let mut program = Host::start(command().env("EWSNOTIFY_OPTIONS", options.to_string()));
        let code = program.until("SignIn")["user_code"].as_str().unwrap().to_owned();
        (program, code)
    };
    let (mut program, code) = begin();
    assert!(sim.wait_until(Duration::from_secs(60), |_| sim.issuer().counts().requests > 0));
    sim.issuer().device(&code, Some(ADA));
    let done = program.until("SignedIn");
    assert!(
        done["stored"] == true && !done.to_string().contains("_token"),
        "stored, and shown to nobody: {done}"
    );
    assert!(program.end().success());
    is_watched(&sim, &options);

    let (program, code) = begin();
    sim.issuer().device(&code, None);
    assert_eq!(program.end().code(), Some(4));

    // With an hour to the next question: the wait itself has to end.
    sim.issuer().device_interval(3600);
    let (program, _) = begin();
    program.signal(Signal::INT);
    let status = program.end();
    assert!(status.code() == Some(130) && status.signal().is_none(), "{status}");
}

/// A machine without a browser could not let anybody sign in from C, or not end on Ctrl-C for the quarter of an hour that a code is good.
#[test]
fn c_lets_a_user_sign_in_on_another_device() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &example("c/sign_in.c"), &["-std=c99", "-pedantic"], dir.path());
    signs_in(|| host(&program));
}

/// The same from Python.
#[test]
fn python_lets_a_user_sign_in_on_another_device() {
    signs_in(|| {
        let mut command = python_at_a_terminal();
        command.arg(example("python/sign_in.py"));
        command
    });
}

/// A host could not be ended for the quarter of an hour that a code is good, or a page would ask the issuer each time that it is loaded.
#[test]
fn a_wait_for_another_device_ends_as_it_is_told_to() {
    let sim = issuer();
    sim.issuer().device_interval(60);
    let dir = tempfile::tempdir().unwrap();
    let program = compile("cc", &program("sign_in.c"), &["-std=gnu99"], dir.path());
    fine(host(program).arg(options(&sim, dir.path()).to_string()));
    assert_eq!(sim.issuer().counts().requests, 0, "no question was due");
}

/// A web server with the pages for PHP; ends with the test.
struct Pages {
    server: Child,
    port: u16,
}

impl Pages {
    fn serve(options: &Value, sessions: &Path) -> Pages {
        let mut server = host("php")
            .args(["-d", "ffi.enable=true", "-S", "127.0.0.1:0", "-t"])
            .arg(example("php"))
            .arg("-d")
            .arg(format!("session.save_path={}", sessions.display()))
            .env("EWSNOTIFY_OPTIONS", options.to_string())
            .env("EWSNOTIFY_REDIRECT", BACK)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let said = log.find(|line| line.contains("started")).expect("php serves");
        let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(')').next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        // A pipe that nobody reads would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Pages { server, port }
    }

    /// What a browser with this cookie gets.
    fn get(&self, path: &str, cookie: &str) -> String {
        self.ask("GET", path, cookie, "")
    }

    /// The same with a form.
    fn ask(&self, method: &str, path: &str, cookie: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // In one piece: PHP's server gives up on a request that comes in several.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: desk.example.test\r\nCookie: a=b; {cookie}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("{name}: {answer}")).1
}

/// The cookie that a page sets.
pub(super) fn cookie(answer: &str) -> String {
    header(answer, "Set-Cookie").split(';').next().unwrap().to_owned()
}

/// What a browser sends when the button of this page is pressed.
pub(super) fn form(page: &str) -> String {
    let token = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    format!("token={}", token.unwrap_or_else(|| panic!("{page}")))
}

/// Where the browser is sent, and the cookie that it has then.
fn set_out(pages: &Pages) -> (String, String) {
    let page = pages.get("/sign_in.php", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<form method=\"post\">"), "{page}");
    let cookie = cookie(&page);
    let answer = pages.ask("POST", "/sign_in.php", &cookie, &form(&page));
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    assert!(!answer.contains("ewsn-sign-in"), "what is kept must not go to the browser: {answer}");
    (header(&answer, "Location").to_owned(), cookie)
}

/// An administrator who clicks "connect the mailbox" comes back to another process of the web server: it must go on there, once, for
/// nobody else, and say what is wrong where it does not.
#[test]
fn pages_in_php_let_a_user_sign_in_with_a_browser() {
    let sim = issuer();
    sim.issuer().browser(Some(ADA));
    let dir = tempfile::tempdir().unwrap();
    let (store, sessions) = (dir.path().join("store"), dir.path().join("sessions"));
    std::fs::create_dir(&sessions).unwrap();
    let options = options(&sim, &store);
    let first = Pages::serve(&options, &sessions);
    let (url, cookie) = set_out(&first);
    drop(first);

    let second = Pages::serve(&options, &sessions);
    let query = sim.issuer().visit(&url).unwrap();
    let back = format!("/signed_in.php?{query}&session_state=0a1b");
    let stranger = second.get(&back, "");
    assert!(stranger.starts_with("HTTP/1.1 400"), "{stranger}");
    let answer = second.get(&back, &cookie);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("is connected"), "{answer}");
    let again = second.get(&back, &cookie);
    assert!(again.starts_with("HTTP/1.1 400") && again.contains("begin again"), "{again}");
    is_watched(&sim, &options);

    // Somebody says no; somebody else's code; what is told is shown as text.
    sim.issuer().browser(None);
    let (url, cookie) = set_out(&second);
    let answer = second.get(&format!("/signed_in.php?{}", sim.issuer().visit(&url).unwrap()), &cookie);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("access_denied"), "{answer}");
    let (_, cookie) = set_out(&second);
    let answer = second.get("/signed_in.php?code=x&state=%3Cscript%3E", &cookie);
    assert!(answer.contains("another sign-in") && !answer.contains("<script>"), "{answer}");
}

/// A page of a stranger's whose form submits itself would connect the mailbox with nobody having pressed anything, where the issuer asks
/// nothing (single sign-on), or log the administrator out.
#[test]
fn a_form_of_a_strangers_begins_no_sign_in() {
    let sim = issuer();
    let dir = tempfile::tempdir().unwrap();
    let pages = Pages::serve(&options(&sim, dir.path()), dir.path());
    let page = pages.get("/sign_in.php", "");
    let (ours, token) = (cookie(&page), form(&page));
    let strangers = form(&pages.get("/sign_in.php", ""));
    let sessions = || std::fs::read_dir(dir.path()).unwrap().count();
    let before = sessions();
    for (cookie, form) in [
        // From elsewhere, the browser sends no cookie.
        ("", ""),
        ("", "token="),
        ("", &*token),
        (&*ours, ""),
        (&*ours, "token="),
        (&*ours, "token[]=x"),
        (&*ours, &*strangers),
    ] {
        let answer = pages.ask("POST", "/sign_in.php", cookie, form);
        assert!(answer.starts_with("HTTP/1.1 403"), "{cookie} {form}: {answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(!lower.contains("location:") && !lower.contains("set-cookie:"), "{cookie} {form}: {answer}");
        assert_eq!(sessions(), before, "{cookie} {form}");
    }
    let answer = pages.ask("POST", "/sign_in.php", &ours, &token);
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
}

/// A host that keeps the tokens itself gets them, and nothing is written; without that it would have to exchange the code by itself.
#[test]
fn a_host_that_stores_tokens_itself_is_given_them() {
    let sim = issuer();
    sim.issuer().browser(Some(ADA));
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&sim, dir.path());
    options.as_object_mut().unwrap().remove("oauth_token_store");
    let run = |code: &str, more: &[&str]| {
        let output = python().args(["-c", code]).arg(options.to_string()).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let begin = "import json, sys, ewsnotify\n\
                 print(json.dumps(ewsnotify.sign_in_begin(sys.argv[2], **json.loads(sys.argv[1]))))";
    let finish = "import json, sys, ewsnotify\n\
                  print(json.dumps(ewsnotify.sign_in_finish(sys.argv[2], sys.argv[3], **json.loads(sys.argv[1]))))";
    let begun = run(begin, &[BACK]);
    let query = sim.issuer().visit(begun["url"].as_str().unwrap()).unwrap();
    let done = run(finish, &[begun["kept"].as_str().unwrap(), &query]);
    assert_eq!((&done["stored"], &done["lasting"]), (&json!(false), &json!(true)), "{done}");
    assert!(sim.issuer().is_newest(done["refresh_token"].as_str().unwrap()));
    assert!(
        done["access_token"].is_string() && done["expires_unix_ms"].as_u64().unwrap() > 1_700_000_000_000
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // It is an option of the watch then.
    options["oauth_refresh_token"] = done["refresh_token"].clone();
    options["oauth_token_store"] = dir.path().to_str().unwrap().into();
    is_watched(&sim, &options);
}
