//! The rare blocks of a section, through pcap-file: section header, interfaces, statistics, secrets
//! (draft-ietf-opsawg-pcapng, sections 4.1, 4.2, 4.6 and 4.7), and Apple's descriptions of processes.

use std::fmt;
use std::io;
use std::time::Duration;

use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use crate::event::{Start, Task};
use crate::safe;

use super::interfaces::Interface;
use super::packet;

/// Most bytes of a name that a block carries: container, operating system, application.
const NAME_MAX: usize = 1024;
/// Most bytes of a description or of the command line.
const TEXT_MAX: usize = 4096;

/// A process, as Apple's tcpdump describes it: its id (32 bits), and options. The type is of the range that
/// is free for local use; Wireshark knows it since 4.6, and readers that do not know it pass over it.
const PROCESS_BLOCK: u32 = 0x8000_0001;
/// The option with the name of the process.
const PROCESS_NAME: u16 = 2;

/// Secrets that later packets are opened with; pcap-file has no type for them. Its body is the kind of the
/// secrets (32 bits), their length (32 bits), and they.
const SECRETS_BLOCK: u32 = 0x0A;
/// The kind of secrets that is a key log of TLS: "TLSK".
const TLS_KEY_LOG: u32 = 0x544c_534b;

/// What is told of an interface at the end of a section. Times in nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    /// Number of the interface in this section.
    pub(super) interface: u32,
    /// Times of the first and the last packet of the section, if it has any.
    pub(super) span: Option<(u64, u64)>,
    /// Packets written for this interface.
    pub(super) packets: u64,
    /// Places in these packets where bytes are missing.
    pub(super) losses: u64,
    /// Records that the kernel side could not hand over, in the whole capture, and words on it.
    pub(super) capture: Option<(u64, String)>,
}

/// Composes the blocks of one section in memory, one at a time.
pub(super) struct Section {
    writer: PcapNgWriter<Vec<u8>>,
    os: Option<String>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("os", &self.os).finish_non_exhaustive()
    }
}

impl Section {
    /// Begins a section with its header block. `start` says where it was captured, if the stream told.
    pub(super) fn new(start: Option<&Start<'_>>) -> io::Result<Self> {
        let mut options = Vec::new();
        let mut os = None;
        if let Some(start) = start {
            let name = os.insert(safe::text(&start.os, NAME_MAX));
            options.push(SectionHeaderOption::OS(name.clone().into()));
            let application = safe::text(&start.application, NAME_MAX);
            options.push(SectionHeaderOption::UserApplication(application.into()));
            let command = safe::text(&start.command, TEXT_MAX);
            options.push(SectionHeaderOption::Common(CommonOption::Comment(command.into())));
        }
        let header =
            SectionHeaderBlock { endianness: Endianness::Little, options, ..SectionHeaderBlock::default() };
        let writer = PcapNgWriter::with_section_header(Vec::new(), header).map_err(invalid)?;
        Ok(Self { writer, os })
    }

    /// The block composed since the last [`Self::clear`].
    pub(super) fn block(&self) -> &[u8] {
        self.writer.get_ref()
    }

    /// Forgets the composed block, which has been written.
    pub(super) fn clear(&mut self) {
        self.writer.get_mut().clear();
    }

    /// Composes an interface: Ethernet, nanoseconds, the same snap length as all others.
    pub(super) fn interface(&mut self, interface: &Interface, snaplen: u32) -> io::Result<()> {
        let mut options = vec![
            InterfaceDescriptionOption::IfName(safe::text(&interface.name, NAME_MAX).into()),
            InterfaceDescriptionOption::IfDescription(safe::text(&interface.description, TEXT_MAX).into()),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ];
        options.extend(self.os.clone().map(|os| InterfaceDescriptionOption::IfOs(os.into())));
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options };
        self.compose(block)
    }

    /// Composes the description of a process under its present name.
    pub(super) fn process(&mut self, task: &Task) -> io::Result<()> {
        let mut body = task.pid.to_le_bytes().to_vec();
        packet::option(&mut body, PROCESS_NAME, safe::text(&task.comm.text(), NAME_MAX).as_bytes());
        packet::option(&mut body, packet::OPT_ENDOFOPT, &[]);
        // A name of at most 15 characters: far below 32 bits.
        self.compose(UnknownBlock::new(PROCESS_BLOCK, body.len() as u32, &body))
    }

    /// Composes a block of secrets: lines of a key log, each with its end of line; less than 4 GiB.
    pub(super) fn secrets(&mut self, lines: &str) -> io::Result<()> {
        let mut body = TLS_KEY_LOG.to_le_bytes().to_vec();
        body.extend_from_slice(&(lines.len() as u32).to_le_bytes());
        body.extend_from_slice(lines.as_bytes());
        self.compose(UnknownBlock::new(SECRETS_BLOCK, body.len() as u32, &body))
    }

    /// Composes the statistics of an interface.
    pub(super) fn statistics(&mut self, statistics: Statistics) -> io::Result<()> {
        let mut options = Vec::new();
        let (start, end) = statistics.span.unwrap_or_default();
        if statistics.span.is_some() {
            options.push(InterfaceStatisticsOption::IsbStartTime(Duration::from_nanos(start)));
            options.push(InterfaceStatisticsOption::IsbEndTime(Duration::from_nanos(end)));
        }
        options.push(InterfaceStatisticsOption::IsbIfRecv(statistics.packets));
        options.push(InterfaceStatisticsOption::IsbIfDrop(statistics.losses));
        if let Some((records, words)) = statistics.capture {
            options.push(InterfaceStatisticsOption::IsbOsDrop(records));
            options.push(InterfaceStatisticsOption::Common(CommonOption::Comment(words.into())));
        }
        let timestamp = Duration::from_nanos(end);
        self.compose(InterfaceStatisticsBlock { interface_id: statistics.interface, timestamp, options })
    }

    fn compose<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        self.writer.write_pcapng_block(block).map(drop).map_err(invalid)
    }
}

/// All texts are bounded and all numbers are of this section, so this is a mistake of the program.
fn invalid(error: PcapNgWriteError) -> io::Error {
    io::Error::other(error)
}
