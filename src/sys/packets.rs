//! Packets as they pass an interface: a packet socket with a ring that the kernel writes to (packet(7),
//! `TPACKET_V3` of Documentation/networking/packet_mmap.rst).

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, ptr};

use rustix::thread::LinkNameSpaceType;

/// One block of the ring, and how many there are: the kernel gives a block when it is full or
/// [`BLOCK_MS`] old.
const BLOCK_BYTES: usize = 1 << 20;
const BLOCKS: usize = 32;
const BLOCK_MS: u32 = 20;
/// Must divide a block; means nothing else in this version.
const FRAME_BYTES: u32 = 2048;
/// Most bytes of a packet that are taken: what a capture can keep of one.
const PACKET_BYTES_MAX: u32 = 262_144;
/// `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const LOOPBACK: u16 = 772;

/// A packet that was seen.
#[derive(Clone, Copy, Debug)]
pub struct SeenPacket<'a> {
    /// Wall-clock time, nanoseconds since 1970.
    pub at: u64,
    /// The interface's number in its network namespace.
    pub interface: u32,
    /// Whether this machine sends it.
    pub outgoing: bool,
    /// `ARPHRD_*` of `linux/if_arp.h`: what header it begins with.
    pub hardware: u16,
    /// The VLAN tag that was taken out of it: protocol and control information.
    pub vlan: Option<(u16, u16)>,
    /// How long it was.
    pub length: u32,
    /// Its bytes, or the first of them.
    pub bytes: &'a [u8],
}

/// Sees the TCP packets of one network namespace.
#[derive(Debug)]
pub struct PacketRing {
    socket: OwnedFd,
    map: *mut u8,
    /// The block that the kernel gives next.
    next: usize,
    dropped: u64,
}

// SAFETY: the mapping belongs to this value alone, and is only read through `&mut self`.
unsafe impl Send for PacketRing {}

impl PacketRing {
    /// Opens one in that network namespace, on one interface or on all of them.
    ///
    /// # Errors
    /// Those of setns(2), socket(2), setsockopt(2), mmap(2): needs CAP_NET_RAW, and CAP_SYS_ADMIN for another
    /// network namespace. There may be no such interface.
    pub fn open(namespace: File, interface: Option<String>) -> io::Result<Self> {
        // A thread moves by itself, and its sockets stay where they were made.
        let open = move || {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            Self::open_here(interface.as_deref())
        };
        let thread = std::thread::Builder::new().name("tlsdump-netns".to_owned()).spawn(open)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
    }

    fn open_here(interface: Option<&str>) -> io::Result<Self> {
        // Without a protocol nothing is received before the filter is in place.
        // SAFETY: socket(2) takes no memory; the descriptor is new and ours.
        let socket = unsafe {
            let fd = checked(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
            OwnedFd::from_raw_fd(fd)
        };
        let filter = filter();
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as c_int))?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: (BLOCK_BYTES * BLOCKS) as u32 / FRAME_BYTES,
            tp_retire_blk_tov: BLOCK_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        // SAFETY: the kernel chooses the place; the length is that of the ring asked for above.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BLOCK_BYTES * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = Self { socket, map: map.cast(), next: 0, dropped: 0 };
        ring.bind(interface)?;
        Ok(ring)
    }

    fn bind(&self, interface: Option<&str>) -> io::Result<()> {
        let index = match interface {
            None => 0,
            Some(name) => {
                let name = CString::new(name)?;
                // SAFETY: the name ends with a NUL and outlives the call.
                match unsafe { libc::if_nametoindex(name.as_ptr()) } {
                    0 => return Err(io::Error::last_os_error()),
                    index => index as c_int,
                }
            }
        };
        // SAFETY: all of its fields may be zero.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        // SAFETY: address and length are of one value that outlives the call.
        checked(unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        })
        .map(drop)
    }

    /// Gives all packets that have come, in order, and says whether there were any.
    pub fn read(&mut self, each: &mut dyn FnMut(SeenPacket<'_>)) -> bool {
        let mut any = false;
        for _ in 0..BLOCKS {
            // SAFETY: `next` is below BLOCKS, so the block is within the mapping, which lives as long as
            // `self`; the kernel places blocks at multiples of their size, which is one of the page's.
            let block = unsafe { self.map.add(self.next * BLOCK_BYTES) };
            // SAFETY: the state of a block is a naturally aligned word of its header, and is shared with the
            // kernel by atomic access only.
            let state = unsafe {
                let header = block.cast::<libc::tpacket_block_desc>();
                AtomicU32::from_ptr(&raw mut (*header).hdr.bh1.block_status)
            };
            if state.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: now the block is ours to read: the kernel writes nothing to it until it is given back.
            let bytes = unsafe { std::slice::from_raw_parts(block, BLOCK_BYTES) };
            packets(bytes, each);
            state.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % BLOCKS;
            any = true;
        }
        any
    }

    /// How many packets found the ring full so far.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn dropped(&mut self) -> io::Result<u64> {
        // SAFETY: all of its fields may be zero.
        let mut counts: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats_v3>() as u32;
        // SAFETY: place and length are of one value that outlives the call.
        checked(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast::<c_void>(),
                &raw mut length,
            )
        })?;
        // They are counted from zero again each time.
        self.dropped += u64::from(counts.tp_drops);
        Ok(self.dropped)
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.map.cast(), BLOCK_BYTES * BLOCKS) };
    }
}

/// The packets of a block: what its header tells is followed within its bounds only.
fn packets(block: &[u8], each: &mut dyn FnMut(SeenPacket<'_>)) {
    let Some(header) = value::<libc::tpacket_block_desc>(block, 0) else { return };
    // SAFETY: the version of the ring is the one in which blocks have this header; any bytes are one.
    let header = unsafe { header.hdr.bh1 };
    let mut at = header.offset_to_first_pkt as usize;
    for _ in 0..header.num_pkts {
        let Some(packet) = value::<libc::tpacket3_hdr>(block, at) else { return };
        let address = at + align(size_of::<libc::tpacket3_hdr>());
        let Some(address) = value::<libc::sockaddr_ll>(block, address) else { return };
        let begin = at + usize::from(packet.tp_mac);
        let Some(bytes) = block.get(begin..begin + packet.tp_snaplen as usize) else { return };
        let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
        // What goes over the loopback interface comes back in: once is enough.
        if !outgoing || address.sll_hatype != LOOPBACK {
            each(SeenPacket {
                at: u64::from(packet.tp_sec) * 1_000_000_000 + u64::from(packet.tp_nsec),
                interface: address.sll_ifindex.cast_unsigned(),
                outgoing,
                hardware: address.sll_hatype,
                vlan: vlan(&packet),
                length: packet.tp_len,
                bytes,
            });
        }
        if packet.tp_next_offset == 0 {
            return;
        }
        at += packet.tp_next_offset as usize;
    }
}

fn vlan(packet: &libc::tpacket3_hdr) -> Option<(u16, u16)> {
    let valid = packet.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    let protocol = match packet.hv1.tp_vlan_tpid {
        0 => 0x8100,
        protocol => protocol,
    };
    valid.then_some((protocol, packet.hv1.tp_vlan_tci as u16))
}

/// `TPACKET_ALIGN`.
fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

/// A struct of the kernel's at a place in a block. Only for those that any bytes are a value of.
fn value<T: Copy>(block: &[u8], at: usize) -> Option<T> {
    let bytes = block.get(at..)?.get(..size_of::<T>())?;
    // SAFETY: so many bytes are there, and the structs that are asked for consist of integers.
    Some(unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

/// Lets TCP over IPv4 and IPv6 through, in any link layer, whole.
fn filter() -> [libc::sock_filter; 9] {
    /// `SKF_AD_OFF + SKF_AD_PROTOCOL` and `SKF_NET_OFF` of `linux/filter.h`.
    const PROTOCOL: u32 = 0xffff_f000;
    const NETWORK: u32 = 0xfff0_0000;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    [
        op(LOAD_HALF, 0, 0, PROTOCOL),
        op(EQUAL, 0, 2, libc::ETH_P_IP as u32),
        op(LOAD_BYTE, 0, 0, NETWORK + 9),
        op(JUMP, 0, 0, 2),
        op(EQUAL, 0, 3, libc::ETH_P_IPV6 as u32),
        op(LOAD_BYTE, 0, 0, NETWORK + 6),
        op(EQUAL, 0, 1, libc::IPPROTO_TCP as u32),
        op(RETURN, 0, 0, PACKET_BYTES_MAX),
        op(RETURN, 0, 0, 0),
    ]
}

fn set<T>(socket: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let place = ptr::from_ref(value).cast::<c_void>();
    // SAFETY: place and length are of one value that outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, place, size_of::<T>() as u32) };
    checked(result).map(drop)
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
