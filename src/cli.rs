//! What was typed: the options, as clap reads them. What they mean together is [`crate::config`]'s matter.

use std::ffi::OsString;

use anyhow::anyhow;
use clap::{ArgAction, Parser, Subcommand};

/// Shown at the end of `--help`.
const EXAMPLES: &str = "\
Targets of different kinds must all match, of one kind any.

Examples:
  tlsdump --mntns 4026532573 -w out.pcapng          one container
  tlsdump --mntns /proc/1234/ns/mnt -w - | tshark -r -
  tlsdump --pid 0 --comm curl                       every curl of the machine, as text
  tlsdump -r recorded.stream -w out.pcapng          no root needed
  tlsdump list --mntns 4026532573                   what would be probed, and what not, and why

Exit status: 0 done, 1 failed while capturing, 2 wrong usage.";

/// tcpdump for what is inside TLS, made for containers
#[derive(Debug, Default, Parser)]
#[command(name = "tlsdump", version, disable_version_flag = true, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    /// Something else than to capture.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Capture this mount namespace: NUMBER, mnt:[NUMBER] or /proc/PID/ns/mnt (repeatable)
    #[arg(long, value_name = "NS", help_heading = "Targets")]
    pub mntns: Vec<String>,

    /// Capture this process; 0 means every process (repeatable)
    #[arg(long, value_name = "PID", help_heading = "Targets")]
    pub pid: Vec<u32>,

    /// Capture the processes of this numeric user id (repeatable)
    #[arg(long, value_name = "UID", help_heading = "Targets")]
    pub uid: Vec<u32>,

    /// Capture threads of this command name, at most 15 bytes (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Targets")]
    pub comm: Vec<OsString>,

    /// Probe this library or program too, if need be at these virtual addresses (repeatable)
    #[arg(long, value_name = "FILE[@FUNCTION=0xADDRESS,…]", help_heading = "Probes")]
    pub lib: Vec<OsString>,

    /// Kernel buffer for all CPUs together: 64k to 1G, default 16M
    #[arg(long, value_name = "SIZE[k|M|G]", help_heading = "Probes")]
    pub buffer: Option<String>,

    /// How data leaves the kernel: auto, ring (buffer) or perf (buffer)
    #[arg(long, value_name = "KIND", help_heading = "Probes")]
    pub transport: Option<String>,

    /// Which programs look for the socket of a session: auto, tracepoint, fentry or kprobe
    #[arg(long, value_name = "KIND", hide = true)]
    pub witness: Option<String>,

    /// How uprobes are attached: auto, multi or perf
    #[arg(long, value_name = "KIND", hide = true)]
    pub attach: Option<String>,

    /// Write packets to FILE in pcapng format; - is standard output
    #[arg(short, value_name = "FILE", help_heading = "Input and output")]
    pub write: Option<OsString>,

    /// Read a stream that --record wrote instead of capturing; - is standard input
    #[arg(short, value_name = "FILE", help_heading = "Input and output")]
    pub read: Option<OsString>,

    /// Keep what the kernel emitted in FILE, for -r
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub record: Option<OsString>,

    /// Stop after COUNT packets
    #[arg(short, value_name = "COUNT", help_heading = "Input and output")]
    pub count: Option<u64>,

    /// Keep SNAPLEN bytes of each packet; 0 and the default mean 262144
    #[arg(short, long = "snapshot-length", value_name = "SNAPLEN", help_heading = "Input and output")]
    pub snaplen: Option<u32>,

    /// How plaintext is put in packets: tls (encrypts nothing; the default), plain, sealed (encrypted); wire
    /// gives the real packets instead
    #[arg(long, value_name = "KIND", help_heading = "Input and output")]
    pub frames: Option<String>,

    /// See the real packets of --frames wire on this interface only
    #[arg(short, long, value_name = "NAME", help_heading = "Input and output")]
    pub interface: Option<String>,

    /// Append the secrets of the TLS sessions to FILE; with sealed packets theirs too, and only there
    #[arg(long, value_name = "FILE", help_heading = "Input and output")]
    pub keylog: Option<OsString>,

    /// Keep the secrets of the TLS sessions out of the capture
    #[arg(long, help_heading = "Input and output")]
    pub no_secrets: bool,

    /// Show a connection of which both ends are captured twice, once from each end
    #[arg(long, help_heading = "Input and output")]
    pub both_ends: bool,

    /// Flush the output after each packet
    #[arg(short = 'U', long, help_heading = "Input and output")]
    pub packet_buffered: bool,

    /// Begin another part when one would be larger; a plain number counts millions of bytes
    #[arg(short = 'C', value_name = "SIZE[k|M|G]", help_heading = "Parts of a capture")]
    pub rotate_size: Option<String>,

    /// Begin another part each SECONDS, aligned to the local time of day
    #[arg(short = 'G', value_name = "SECONDS", help_heading = "Parts of a capture")]
    pub rotate_seconds: Option<u32>,

    /// Keep only COUNT parts: the oldest is removed
    #[arg(short = 'W', value_name = "COUNT", help_heading = "Parts of a capture")]
    pub keep: Option<u32>,

    /// As dumpcap: packets:N, filesize:KB, duration:SECONDS, interval:SECONDS, files:N (repeatable)
    #[arg(short = 'b', value_name = "CONDITION", help_heading = "Parts of a capture")]
    pub ring_buffer: Vec<String>,

    /// Compress with zstd, level 1 to 19, default 3; so does a name that ends in .zst
    #[arg(long, value_name = "zstd[:LEVEL]", help_heading = "Parts of a capture")]
    pub compress: Option<String>,

    /// Run COMMAND with the name of each finished part
    #[arg(short = 'z', value_name = "COMMAND", help_heading = "Parts of a capture")]
    pub postrotate: Option<OsString>,

    /// Replace files that exist
    #[arg(long, help_heading = "Parts of a capture")]
    pub overwrite: bool,

    /// Let the group of a file read it
    #[arg(long, help_heading = "Parts of a capture")]
    pub group_readable: bool,

    /// Have each part on the disk before it gets its name
    #[arg(long, help_heading = "Parts of a capture")]
    pub sync: bool,

    /// Become USER, without privileges, once the probes are in place; files are theirs
    #[arg(short = 'Z', value_name = "USER", help_heading = "Parts of a capture")]
    pub relinquish: Option<String>,

    /// Print a readable dump on standard output; the default without -w
    #[arg(long, help_heading = "Input and output")]
    pub text: bool,

    /// Say more on standard error; twice for messages of libbpf
    #[arg(short, action = ArgAction::Count)]
    pub verbose: u8,

    /// Say nothing on standard error but errors
    #[arg(short)]
    pub quiet: bool,

    /// Print version
    #[arg(long, action = ArgAction::Version)]
    pub version: Option<bool>,
}

/// What else there is to do than to capture.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the TLS libraries of a target, and what can't be probed and why
    List(ListArgs),
    /// Check whether this machine can capture, by really doing it, and say what to do
    Doctor(DoctorArgs),
    /// Put the secrets of a key log into a capture, or leave out those that are there
    Open(OpenArgs),
}

/// Without a target: what any process has mapped.
#[derive(Debug, Default, clap::Args)]
pub struct ListArgs {
    /// List for this mount namespace: NUMBER, mnt:[NUMBER] or /proc/PID/ns/mnt (repeatable)
    #[arg(long, value_name = "NS")]
    pub mntns: Vec<String>,

    /// List for this process; 0 means every process (repeatable)
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,

    /// Show of the processes only those of this numeric user id (repeatable)
    #[arg(long, value_name = "UID")]
    pub uid: Vec<u32>,

    /// Show of the processes only those of this command name (repeatable)
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<OsString>,

    /// Look into this library or program too, if need be at these virtual addresses (repeatable)
    #[arg(long, value_name = "FILE[@FUNCTION=0xADDRESS,…]")]
    pub lib: Vec<OsString>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Name the functions and all processes
    #[arg(short)]
    pub verbose: bool,
}

/// No option is needed.
#[derive(Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Be the program that is captured in the self-test
    #[arg(long, value_name = "KIND", hide = true)]
    pub self_test_child: Option<String>,
}

/// A capture in, a capture out.
#[derive(Debug, Default, clap::Args)]
pub struct OpenArgs {
    /// The pcapng to read; - for standard input
    #[arg(value_name = "CAPTURE")]
    pub capture: OsString,

    /// Write pcapng to FILE; - for standard output
    #[arg(short = 'w', value_name = "FILE")]
    pub write: OsString,

    /// Put the secrets of FILE in, before all packets
    #[arg(long, value_name = "FILE")]
    pub keylog: Option<OsString>,

    /// Leave out the secrets that are there
    #[arg(long)]
    pub no_secrets: bool,

    /// Replace a file of that name
    #[arg(long)]
    pub overwrite: bool,
}

impl Args {
    /// Reads the command line of this process. Ends the process with status 0 where help or the version was
    /// asked for.
    ///
    /// # Errors
    /// What is wrong with the command line, in one line.
    pub fn from_command_line() -> anyhow::Result<Self> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                error.exit();
            }
            anyhow!(one_line(&error.render().to_string()))
        })
    }
}

/// clap's message without its prefix, its usage text and its line breaks.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let text = lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    format!("{} (see tlsdump --help)", text.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Args, Parser, one_line};

    #[test]
    fn clap_accepts_the_definition() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_take_tcpdumps_forms() {
        let line = ["tlsdump", "-wout", "-c5", "-s", "96", "-Uvv", "--pid=1", "--pid", "2", "--comm", "a b"];
        let args = Args::try_parse_from(line).unwrap_or_default();
        assert_eq!(args.write.as_deref(), Some("out".as_ref()));
        assert_eq!((args.count, args.snaplen), (Some(5), Some(96)));
        assert_eq!((args.packet_buffered, args.verbose), (true, 2));
        assert_eq!(args.pid, [1, 2]);
        assert_eq!(args.comm, ["a b"]);
    }

    #[test]
    fn an_error_is_one_line() {
        let cases = [
            (
                &["--mntn", "1"][..],
                "unexpected argument '--mntn' found; a similar argument exists: '--mntns'",
            ),
            (&["--pid", "x"], "invalid value 'x' for '--pid <PID>': invalid digit found in string"),
            (&["-w"], "a value is required for '-w <FILE>' but none was supplied"),
            (&["-w", "a", "-w", "b"], "the argument '-w <FILE>' cannot be used multiple times"),
            (&["port", "443"], "unrecognized subcommand 'port'"),
        ];
        for (line, expected) in cases {
            let error = Args::try_parse_from([&["tlsdump"], line].concat()).err().map(|e| e.to_string());
            let error = one_line(&error.unwrap_or_default());
            assert_eq!(error, format!("{expected} (see tlsdump --help)"));
        }
    }
}
