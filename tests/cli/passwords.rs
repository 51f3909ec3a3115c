//! `hash-password` and `user add`: passwords from standard input, unseen on a terminal.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use vitald::testing::config;
use vitald::testing::config::password::{HashMemory, PasswordHash};

use crate::support::{Outcome, command};

const PASSWORD: &str = "correct horse";

fn with_input(command: &mut Command, input: &[u8]) -> Outcome {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // A command that refuses early does not read all of it.
    let _ = child.stdin.take().expect("stdin").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[test]
fn a_piped_password_becomes_its_hash() {
    for input in ["correct horse\n", "correct horse", "correct horse\r\n", "correct horse\nanother line\n"] {
        let outcome = with_input(&mut command(&["hash-password"]), input.as_bytes()).expect_code(0);
        assert!(outcome.stdout.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", outcome.stdout);
        assert!(outcome.stdout.ends_with('\n') && outcome.stderr.is_empty());
        let hash = PasswordHash::parse(&outcome.stdout).expect("a hash");
        assert!(hash.matches(PASSWORD.as_bytes(), &mut HashMemory::default()), "{input:?}");
    }
}

#[test]
fn passwords_that_nobody_could_use() {
    let long = "x".repeat(1025);
    for (input, words) in
        [(&b""[..], "empty"), (b"\n", "empty"), (b"\xff\n", "UTF-8"), (long.as_bytes(), "longer than 1024")]
    {
        let outcome = with_input(&mut command(&["hash-password"]), input).expect_code(1);
        assert!(outcome.stdout.is_empty());
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    with_input(&mut command(&["hash-password", PASSWORD]), b"").expect_code(2);
}

#[test]
fn a_user_is_a_hash_file_and_lines_for_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let main = directory.path().join("vitald.toml");
    let main = main.to_str().expect("UTF-8");
    // From elsewhere: the hash goes where the configuration looks for it.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let add = |arguments: &[&str]| {
        let mut command = command(&[&["user", "add", "--config", main], arguments].concat());
        with_input(command.current_dir(elsewhere.path()), PASSWORD.as_bytes())
    };
    let outcome = add(&["ops", "--role", "admin"]).expect_code(0);
    assert!(outcome.stdout.contains("password_hash_file = \"ops.hash\"\n"), "{}", outcome.stdout);
    let file = directory.path().join("ops.hash");
    assert_eq!(std::fs::metadata(&file).expect("the hash").permissions().mode() & 0o777, 0o640);
    let config = config::parse("vitald.toml", &format!("[api]\n{}", outcome.stdout), directory.path());
    let api = config.expect("good lines").api.expect("an API");
    assert_eq!((api.users[0].name.as_str(), api.users[0].domain.as_str()), ("ops", "local"));
    assert!(api.users[0].password.matches(PASSWORD.as_bytes(), &mut HashMemory::default()));

    let again = add(&["ops", "--role", "viewer"]).expect_code(1);
    assert!(again.stderr.contains("ops.hash") && again.stdout.is_empty(), "{}", again.stderr);
    add(&["../ops", "--role", "viewer"]).expect_code(2);
    add(&["eye"]).expect_code(2);
    let here = add(&["eye", "--role", "viewer", "--domain", "other", "--hash-file", "x.hash"]).expect_code(0);
    // A relative path in the configuration would be one from its own directory.
    let named = elsewhere.path().join("x.hash");
    assert!(
        here.stdout.contains(&format!("password_hash_file = \"{}\"", named.display())),
        "{}",
        here.stdout
    );
    let arguments = ["user", "add", "eye", "--role", "viewer", "--config", "/nowhere/vitald.toml"];
    let lost = with_input(&mut command(&arguments), PASSWORD.as_bytes()).expect_code(1);
    assert!(
        lost.stderr.contains("there is no directory /nowhere") && lost.stdout.is_empty(),
        "{}",
        lost.stderr
    );
}

/// `script` gives the command a terminal. What is typed must not come back.
#[test]
fn a_terminal_shows_nothing_of_the_password() {
    if Command::new("script").arg("--version").output().is_err() {
        return crate::skipped::note("script (bsdutils) is not installed");
    }
    let (code, shown) = on_a_terminal(&["Password: ", "Again: "], &["correct horse\n", "correct horse\n"]);
    assert!(code == Some(0) && shown.contains("$argon2id$"), "{shown}");
    assert!(!shown.contains("horse"), "{shown}");
    let (code, shown) = on_a_terminal(&["Password: ", "Again: "], &["correct horse\n", "another\n"]);
    assert!(code == Some(1) && shown.contains("differ"), "{shown}");
    assert!(!shown.contains("horse") && !shown.contains("$argon2id$"), "{shown}");
    // Ctrl-C: an end like any other, which turns the echo on again.
    let (code, shown) = on_a_terminal(&["Password: "], &["corr\x03"]);
    assert!(code == Some(130) && !shown.contains("corr"), "{code:?} {shown}");
}

/// Types each line when its prompt has appeared; everything the terminal showed.
fn on_a_terminal(prompts: &[&str], lines: &[&str]) -> (Option<i32>, String) {
    let mut script = Command::new("script");
    let inner = format!("{} hash-password", env!("CARGO_BIN_EXE_vitald"));
    script.args(["--quiet", "--return", "--command", &inner, "/dev/null"]);
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
    let mut shown = Vec::new();
    let mut byte = [0];
    for (prompt, line) in prompts.iter().zip(lines) {
        while !shown.ends_with(prompt.as_bytes()) {
            assert_ne!(stdout.read(&mut byte).expect("readable"), 0, "{}", String::from_utf8_lossy(&shown));
            shown.extend(byte);
        }
        stdin.write_all(line.as_bytes()).expect("writable");
    }
    // A terminal at its end answers with an error, which is as good.
    let _ = stdout.read_to_end(&mut shown);
    let code = child.wait().expect("it ends").code();
    drop(stdin);
    (code, String::from_utf8_lossy(&shown).into_owned())
}
