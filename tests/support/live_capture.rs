//! Runs tlsdump and reads what it has captured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::lab::Lab;
use crate::mover::{Moved, Sum};
use crate::pcapng::{self, Capture, Packet, Way};
use crate::process::{Ended, Process, run};
use crate::streams::{self, Conversation, Stream};

/// A tlsdump that captures.
pub(crate) struct Tlsdump {
    process: Process,
    file: PathBuf,
    /// What it said when it was armed.
    pub(crate) armed: String,
}

/// A tlsdump that will capture soon.
pub(crate) struct Starting {
    process: Process,
    file: PathBuf,
}

/// A finished capture.
pub(crate) struct Captured {
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) capture: Capture,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) ended: Ended,
}

/// tlsdump with these arguments.
pub(crate) fn tlsdump(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tlsdump"));
    command.args(arguments);
    command
}

impl Tlsdump {
    /// Captures into a file of the lab; armed when this returns.
    #[track_caller]
    pub(crate) fn start(lab: &Lab, arguments: &[&str]) -> Self {
        Self::begin(lab, arguments).armed()
    }

    /// The same, not armed yet.
    #[track_caller]
    pub(crate) fn begin(lab: &Lab, arguments: &[&str]) -> Starting {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        Starting::launch(lab.path(&format!("{number}.pcapng")), arguments, Stdio::null())
    }

    /// Captures into `file`.
    #[track_caller]
    pub(crate) fn start_to(file: PathBuf, arguments: &[&str]) -> Self {
        Starting::launch(file, arguments, Stdio::null()).armed()
    }

    /// Captures to `stdout`, as pcapng.
    #[track_caller]
    pub(crate) fn start_piped(arguments: &[&str], stdout: Stdio) -> Self {
        Starting::launch("-".into(), arguments, stdout).armed()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, however it comes.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.process.end()
    }

    /// Interrupts it, and reads its file.
    #[track_caller]
    pub(crate) fn stop(self) -> Captured {
        self.signal(Signal::INT);
        let file = self.file.clone();
        Captured::read(&file, self.end().succeeds())
    }
}

impl Starting {
    #[track_caller]
    fn launch(file: PathBuf, arguments: &[&str], stdout: Stdio) -> Self {
        let mut command = tlsdump(arguments);
        let process = Process::start_with(command.arg("-w").arg(&file), Stdio::null(), stdout);
        Self { process, file }
    }

    /// Waits until every call will be seen.
    #[track_caller]
    pub(crate) fn armed(self) -> Tlsdump {
        let Self { process, file } = self;
        let armed =
            process.stderr_line("tlsdump to be armed", |line| line.starts_with("tlsdump: capturing "));
        Tlsdump { process, file, armed }
    }
}

impl Captured {
    #[track_caller]
    pub(crate) fn read(file: &Path, ended: Ended) -> Self {
        let bytes =
            std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}\n{ended}", file.display()));
        let capture = pcapng::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let conversations = streams::conversations(&capture);
        let conversations = conversations.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { file: file.to_owned(), bytes, capture, conversations, ended }
    }

    /// Whether `text` is anywhere in the file.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The packet that begins a conversation.
    pub(crate) fn first_packet(&self, conversation: &Conversation) -> &Packet {
        &self.capture.packets[conversation.packets[0]]
    }

    /// A value of the comment that tells whose the conversation is.
    #[track_caller]
    pub(crate) fn value(&self, conversation: &Conversation, key: &str) -> String {
        let packet = self.first_packet(conversation);
        packet.value(key).unwrap_or_else(|| panic!("no {key} is told: {packet:?}"))
    }

    /// The ends of a conversation: the traced process's and its peer's.
    pub(crate) fn ends(&self, conversation: &Conversation) -> (SocketAddr, SocketAddr) {
        let packet = self.first_packet(conversation);
        if packet.way == Some(Way::Outbound) { (packet.from, packet.to) } else { (packet.to, packet.from) }
    }

    /// The only conversation.
    #[track_caller]
    pub(crate) fn only(&self) -> &Conversation {
        assert_eq!(self.conversations.len(), 1, "conversations:\n{self}");
        &self.conversations[0]
    }

    /// The only conversation with these ends.
    #[track_caller]
    pub(crate) fn between(&self, local: SocketAddr, remote: SocketAddr) -> &Conversation {
        let fitting = self.conversations.iter().filter(|c| self.ends(c) == (local, remote));
        match fitting.collect::<Vec<_>>()[..] {
            [conversation] => conversation,
            ref other => panic!("{} conversations between {local} and {remote}:\n{self}", other.len()),
        }
    }

    /// The only conversation in which the traced process wrote something that begins so.
    #[track_caller]
    pub(crate) fn that_wrote(&self, beginning: &str) -> &Conversation {
        let fitting =
            self.conversations.iter().filter(|c| c.written().bytes().starts_with(beginning.as_bytes()));
        match fitting.collect::<Vec<_>>()[..] {
            [conversation] => conversation,
            ref other => panic!("{} conversations that wrote {beginning:?}:\n{self}", other.len()),
        }
    }

    /// A conversation has exactly the bytes that the program moved, and the true addresses.
    #[track_caller]
    pub(crate) fn is_exact(&self, moved: &Moved) {
        self.is_exact_in(self.between(moved.local, moved.remote), moved);
    }

    /// There are exactly these sessions, each whole, with its socket known by `tuple`.
    #[track_caller]
    pub(crate) fn are_exact(&self, moved: &[Moved], tuple: &str) {
        assert!(!moved.is_empty());
        assert_eq!(self.conversations.len(), moved.len(), "{self}");
        for session in moved {
            self.is_exact(session);
            let conversation = self.between(session.local, session.remote);
            assert_eq!(self.value(conversation, "tuple"), tuple);
            assert!(conversation.opened && conversation.written().finished, "{self}");
        }
        println!("{} sessions exact", moved.len());
    }

    /// `conversation` has exactly the bytes that the program moved.
    #[track_caller]
    pub(crate) fn is_exact_in(&self, conversation: &Conversation, moved: &Moved) {
        same(conversation.written(), &moved.wrote, moved);
        same(conversation.read(), &moved.read, moved);
        assert_eq!(self.value(conversation, "pid"), moved.pid.to_string());
    }
}

#[track_caller]
fn same(stream: &Stream, sum: &Sum, moved: &Moved) {
    assert_eq!(stream.gaps(), [], "nothing may be lost of {moved:?}");
    assert_eq!(Sum::of(stream.bytes()), *sum, "of {moved:?}");
}

impl std::fmt::Display for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for conversation in &self.conversations {
            let (local, remote) = self.ends(conversation);
            let show = |stream: &Stream| {
                let bytes = stream.bytes();
                format!("{} bytes {}", bytes.len(), bytes[..bytes.len().min(60)].escape_ascii())
            };
            let (written, read) = (show(conversation.written()), show(conversation.read()));
            writeln!(f, "{local} with {remote}\n  wrote {written}\n  read  {read}")?;
            writeln!(f, "  {:?}", self.first_packet(conversation).comments)?;
        }
        write!(f, "{}", self.ended)
    }
}

/// Runs tshark on a file and gives what it prints.
#[track_caller]
pub(crate) fn tshark(file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    run(command.arg("-r").arg(file).args(arguments)).succeeds().stdout
}
