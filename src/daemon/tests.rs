//! The whole daemon in this process, around a configuration whose load the test holds up.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::time::advance;

use super::reloads::MadeConfig;
use super::*;

const PROJECT: &str = "0123456789abcdef0123456789abcdef";
const INSTANCE: &str = "eddc4d25480b4cd6b512f270a1b8b341";

/// A daemon whose loads wait, but for the first, until the test says what is loaded.
struct HeldUp {
    /// Told when a load begins.
    began: Receiver<()>,
    texts: Sender<String>,
    socket: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<Ending, DaemonError>>>,
    folder: tempfile::TempDir,
}

impl HeldUp {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tell, began) = channel();
        let (texts, next) = channel::<String>();
        let sides = Mutex::new((tell, next));
        let made = move || {
            let (tell, next) = &*sides.lock().unwrap();
            tell.send(()).unwrap();
            // Without a text the test is over.
            let text = next.recv().unwrap_or_default();
            config::parse("made.toml", &text, Path::new("."))
        };
        let (ready, is_ready) = channel();
        let stop = CancellationToken::new();
        let options = DaemonOptions {
            config: ConfigSource::Made(MadeConfig(Arc::new(made))),
            listen: Some(([127, 0, 0, 1], 0).into()),
            stop: stop.clone(),
            on_ready: Some(Box::new(move |_| ready.send(()).unwrap())),
            events: None,
            lost_log_lines: None,
        };
        let socket = folder.path().join("sock");
        let this = Self { began, texts, socket, stop, thread: None, folder };
        this.texts.send(this.text("")).unwrap();
        let thread = thread::spawn(move || run(options));
        is_ready.recv().unwrap();
        this.began.recv().unwrap();
        Self { thread: Some(thread), ..this }
    }

    /// The configuration, with these channels of files.
    fn text(&self, channels: &str) -> String {
        let place = self.folder.path().display();
        format!(
            "[server]\nsocket = \"{place}/sock\"\n[store]\npath = \"{place}/state\"\n[api]\n\
             project = {{ id = \"{PROJECT}\" }}\n[[api.instances]]\nid = \"{INSTANCE}\"\n{channels}"
        )
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        ask(&self.socket, method, path, body)
    }

    /// Asks for a reload, on a thread of its own.
    fn reload(&self) -> JoinHandle<String> {
        let socket = self.socket.clone();
        thread::spawn(move || ask(&socket, "POST", "/v1/reload", ""))
    }

    fn end(self) {
        self.stop.cancel();
        let ended = self.thread.map(|thread| thread.join().unwrap().unwrap());
        assert_eq!(ended, Some(Ending::Stopped));
    }
}

/// The status line and the body of an answer.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {body}", head.lines().next().unwrap())
}

fn channel_of_file(name: &str) -> String {
    format!(
        "[[channels]]\nname = \"{name}\"\nport = 1\nbalance_strategy = 1\nmember_type = \"ip\"\n\
         [[channels.members]]\nhost = \"127.0.0.1\"\n"
    )
}

#[test]
fn what_the_api_changes_while_a_load_runs_is_not_lost() {
    let daemon = HeldUp::start();
    let channels = format!("/v2/{PROJECT}/apigw/instances/{INSTANCE}/vpc-channels");
    let made = |name: &str| {
        let body = format!(
            r#"{{"name":"{name}","port":80,"balance_strategy":1,"member_type":"ip","members":[{{"host":"127.0.0.1"}}]}}"#
        );
        daemon.ask("POST", &channels, &body)
    };
    assert!(made("before").starts_with("HTTP/1.0 201"));
    let asked = daemon.reload();
    daemon.began.recv().unwrap();
    // The load runs: the API writes, and a name that the files are about to bring is free.
    assert!(made("during").starts_with("HTTP/1.0 201"));
    assert!(!asked.is_finished());
    daemon.texts.send(daemon.text(&channel_of_file("from-file"))).unwrap();
    let answer = asked.join().unwrap();
    for count in
        ["channels", "members"].map(|what| format!("\"{what}\":3")).iter().chain(&["\"added\":1".to_owned()])
    {
        assert!(answer.contains(count), "{answer}");
    }
    for name in ["before", "during", "from-file"] {
        assert!(daemon.ask("GET", &format!("/v1/channels/{name}"), "").starts_with("HTTP/1.0 200"), "{name}");
    }

    // A name that the API took while the files that bring it were read is the API's.
    let asked = daemon.reload();
    daemon.began.recv().unwrap();
    assert!(made("taken").starts_with("HTTP/1.0 201"));
    let files = channel_of_file("from-file") + &channel_of_file("taken");
    daemon.texts.send(daemon.text(&files)).unwrap();
    let answer = asked.join().unwrap();
    assert!(answer.starts_with("HTTP/1.0 422") && answer.contains("taken"), "{answer}");
    daemon.end();
}

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_ever() {
    let (release, held) = channel::<()>();
    let hang = move || held.recv().map_err(|error| DaemonError::Slow(error.to_string()));
    let within = Duration::from_secs(30);
    let started = tokio::spawn(beside(within, hang, || DaemonError::Slow("it hangs".to_owned())));
    // Its time begins when it is first polled.
    tokio::task::yield_now().await;
    advance(within - Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
    assert!(!started.is_finished());
    advance(Duration::from_millis(1)).await;
    let error = started.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot start: it hangs");
    drop(release);
}
