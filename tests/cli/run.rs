//! `vitald run` as a process, asked by `status` and `reload`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use crate::check::ConfigFile;
use crate::support::{Outcome, Running, command, vitald};

/// A configuration with one TCP member that listens nowhere, `more` appended.
fn config(listen: u16, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:{listen}\"\n[[channels]]\nname = \"web\"\nport = 1\n\
         balance_strategy = 1\nmember_type = \"ip\"\n[channels.vpc_health_config]\nprotocol = \"TCP\"\n\
         threshold_normal = 1\nthreshold_abnormal = 1\ntime_interval = \"200ms\"\ntimeout = \"100ms\"\n\
         [[channels.members]]\nhost = \"127.0.0.1\"\n{more}"
    )
}

/// Waits until the JSON log has a line with this message.
fn wait_for(lines: &mut impl Iterator<Item = String>, message: &str) -> serde_json::Value {
    lines
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
        })
        .find(|line| line.get("message").and_then(|text| text.as_str()) == Some(message))
        .unwrap_or_else(|| panic!("no line says {message:?}"))
}

#[test]
fn run_logs_json_reloads_and_ends_in_order() {
    let port = crate::support::closed_port();
    let file = ConfigFile::new(&config(port, ""));
    let mut child = command(&["run", "--config", file.path(), "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let running = Running(child);
    let started = wait_for(&mut lines, "probing");
    assert_eq!(started.get("level").and_then(|level| level.as_str()), Some("INFO"));
    let change = wait_for(&mut lines, "127.0.0.1:1 of web is unhealthy");
    let field = |name: &str| change.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    assert_eq!(
        (field("channel"), field("member"), field("from"), field("to"), field("reason")),
        (
            "web".to_owned(),
            "127.0.0.1:1".to_owned(),
            "unknown".to_owned(),
            "unhealthy".to_owned(),
            "refused".to_owned()
        )
    );

    // The address comes from the configuration, as for an operator.
    vitald(&["status", "--config", file.path()]).expect_code(2);

    std::fs::write(file.path(), config(port, "[[channels.members]]\nhost = \"127.0.0.2\"\n")).expect("write");
    let Outcome { stdout, .. } = vitald(&["reload", "--config", file.path()]).expect_code(0);
    assert!(stdout.contains("members added 1, removed 0, changed 0, restarted 0"), "{stdout}");

    std::fs::write(file.path(), config(port, "frob = 1\n")).expect("write");
    let Outcome { stderr, .. } = vitald(&["reload", "--config", file.path()]).expect_code(78);
    assert!(stderr.contains("E002") && stderr.contains("keeps its old configuration"), "{stderr}");

    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

/// A daemon is ready after `ready_within` and stays so. Ten results have to agree, so
/// nobody gets a verdict while this test lasts.
#[test]
fn status_counts_members_that_wait_for_a_verdict_whether_ready_or_not() {
    let port = crate::support::closed_port();
    let text = |check: &str, more: &str| {
        let slow = "threshold_abnormal = 10\ntime_interval = \"30s\"";
        let config = config(port, more);
        let config = config.replace("threshold_abnormal = 1\ntime_interval = \"200ms\"", slow);
        format!("[prober]\nready_within = \"0s\"\n{}", config.replace("threshold_normal = 1\n", check))
    };
    let file = ConfigFile::new(&text("threshold_normal = 1\n", ""));
    let child = command(&["run", "--config", file.path(), "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let running = Running(child);
    wait_for(&mut lines, "probing");
    let found = vitald(&["status", "--config", file.path()]).expect_code(3).stdout;
    assert!(found.contains("  web: 1 of 1 enabled members without a verdict since 20"), "{found}");

    let added = "[[channels.members]]\nhost = \"127.0.0.2\"\n[[channels.members]]\nhost = \"127.0.0.3\"\n";
    std::fs::write(file.path(), text("threshold_normal = 1\n", added)).expect("write");
    vitald(&["reload", "--config", file.path()]).expect_code(0);
    for arguments in
        [&["status", "--config", file.path()][..], &["status", "--channel", "web", "--config", file.path()]]
    {
        let found = vitald(arguments).expect_code(3).stdout;
        assert!(found.starts_with("unknown  "), "{found}");
        assert!(found.contains("  web: 3 of 3 enabled members without a verdict since 20"), "{found}");
    }

    // Who is not checked waits for nothing.
    std::fs::write(file.path(), text("threshold_normal = 1\nstatus = 2\n", added)).expect("write");
    vitald(&["reload", "--config", file.path()]).expect_code(0);
    vitald(&["status", "--config", file.path()]).expect_code(0);
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

/// A directory of channel files that is gone, empty or cut short is no wish for fewer
/// channels.
#[test]
fn a_reload_from_some_channels_to_none_is_refused() {
    let port = crate::support::closed_port();
    let file = ConfigFile::new("");
    let directory = std::path::Path::new(file.path()).parent().expect("a directory");
    // Over the socket, which shows everything.
    let main = |more: &str| {
        let server = format!("listen = \"127.0.0.1:{port}\"\nsocket = \"{}/sock\"", directory.display());
        format!("[server]\n{server}\n{more}[include]\nchannels = \"c.d/*.toml\"\n")
    };
    std::fs::write(file.path(), main("")).expect("written");
    let (here, gone) = (directory.join("c.d"), directory.join("gone.d"));
    std::fs::create_dir(&here).expect("made");
    let write_members = |count: u8| {
        let head = "name = \"web\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n";
        let members = (1..=count).map(|last| format!("[[members]]\nhost = \"127.0.0.{last}\"\n"));
        let text = head.to_owned() + &members.collect::<String>();
        std::fs::write(here.join("web.toml"), text).expect("written");
    };
    write_members(10);
    // A stray name that is not UTF-8 ends nothing.
    let stray = std::ffi::OsStr::from_bytes(b"\xff.toml");
    std::fs::write(here.join(stray), "").expect("written");
    let checked = vitald(&["check", "--config", file.path()]).expect_code(0).stdout;
    assert!(checked.contains("note: ") && checked.contains("its name is not UTF-8"), "{checked}");

    let child = command(&["run", "--config", file.path(), "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let running = Running(child);
    wait_for(&mut lines, "probing");
    write_members(5);
    vitald(&["reload", "--config", file.path()]).expect_code(0);
    let fall = wait_for(&mut lines, "a reload takes 5 of 10 members of files away: web 10 -> 5");
    assert_eq!(fall.get("level").and_then(|level| level.as_str()), Some("WARN"));
    let refused = |why: &str| {
        let outcome = vitald(&["reload", "--config", file.path()]).expect_code(78);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
        vitald(&["status", "--channel", "web", "--config", file.path()]).expect_code(0);
    };
    std::fs::rename(&here, &gone).expect("renamed");
    refused("does not exist");
    std::os::unix::fs::symlink("nowhere", &here).expect("linked");
    refused("is a link to nowhere");
    std::fs::remove_file(&here).expect("removed");
    std::fs::write(&here, "").expect("written");
    refused("is not a directory");
    std::fs::remove_file(&here).expect("removed");
    std::fs::create_dir(&here).expect("made");
    refused("min_channels = 0");
    std::fs::write(here.join("web.TOML"), "").expect("written");
    refused("min_channels = 0");
    // The main file cut short, as by a full disk.
    std::fs::write(file.path(), main("").replace("[include]", "#").replace("channels =", "#"))
        .expect("written");
    refused("min_channels = 0");
    std::fs::write(file.path(), main("[prober]\nmin_channels = 1\n")).expect("written");
    refused("`min_channels` is 1; channels in the files: 0");
    vitald(&["check", "--config", file.path()]).expect_code(78);

    std::fs::write(file.path(), main("[prober]\nmin_channels = 0\n")).expect("written");
    vitald(&["reload", "--config", file.path()]).expect_code(0);
    let nothing = vitald(&["status", "--config", file.path()]).expect_code(3).stdout;
    assert!(nothing.contains("no channel is configured"), "{nothing}");
    running.signal("TERM");
    assert_eq!(running.ended(), Some(0));
}

#[test]
fn run_that_cannot_listen_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let file = ConfigFile::new(&config(taken.local_addr().expect("address").port(), ""));
    let outcome = vitald(&["run", "--config", file.path()]).expect_code(1);
    assert!(outcome.stderr.contains("cannot listen on 127.0.0.1:"), "{}", outcome.stderr);
}

#[test]
fn memory_is_kept_out_of_core_files() {
    // Of root's processes it cannot be told, so root runs a copy as nobody.
    const NOBODY: u32 = 65_534;
    let place = tempfile::tempdir().expect("tempdir");
    let (binary, file) = (place.path().join("vitald"), place.path().join("vitald.toml"));
    std::fs::copy(env!("CARGO_BIN_EXE_vitald"), &binary).expect("copied");
    std::fs::write(&file, config(0, "")).expect("write");
    let readable = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(place.path(), readable(0o755)).expect("set");
    std::fs::set_permissions(&file, readable(0o644)).expect("set");
    let mut command = std::process::Command::new(&binary);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["run", "--log-format", "json", "--config"]).arg(&file);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let running = Running(child);
    wait_for(&mut lines, "probing");
    let about = format!("/proc/{}", running.0.id());
    let limits = std::fs::read_to_string(format!("{about}/limits")).expect("it runs");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    // proc(5): what cannot be dumped belongs to root, so that others of its user cannot look.
    let owner = std::fs::metadata(format!("{about}/environ")).expect("it runs").uid();
    assert_eq!(owner, 0);
}
