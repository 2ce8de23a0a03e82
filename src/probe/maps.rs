//! The files that a process has mapped as code.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Most bytes that are read of one maps file: some 65,530 mappings are allowed unless the machine says more.
const MAPS_BYTES_MAX: u64 = 16 << 20;

/// A stretch of a file that is mapped with the right to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Name of the link in /proc/PID/map_files.
    pub(super) link: String,
    /// Device and inode as this file writes them; under overlayfs not the same as those of stat(2).
    pub(super) file: (u32, u32, u64),
    /// The path as the process sees it.
    pub(super) path: PathBuf,
    /// Addresses, the last one exclusive.
    start: u64,
    end: u64,
    /// Where in the file it begins.
    offset: u64,
}

/// Reads /proc/PID/maps.
///
/// # Errors
/// Those of reading it: the process may be gone, or not ours to see.
pub(super) fn code_mappings(process: &Path) -> std::io::Result<Vec<Mapping>> {
    let mut text = Vec::new();
    File::open(process.join("maps"))?.take(MAPS_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(parse_mapping).collect())
}

/// Where in its file the code at an address of this process is, as uprobes take it. None where the address is
/// not in a mapped file's code.
///
/// # Errors
/// Those of reading /proc/self/maps.
pub fn file_offset(address: u64) -> std::io::Result<Option<u64>> {
    let mut text = Vec::new();
    File::open("/proc/self/maps")?.take(MAPS_BYTES_MAX).read_to_end(&mut text)?;
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(parse_mapping).find_map(|mapping| {
        let within = address.checked_sub(mapping.start)?;
        (address < mapping.end).then(|| mapping.offset.checked_add(within))?
    }))
}

/// `7f1c2a000000-7f1c2a05d000 r-xp 0001f000 fe:00 797102    /usr/lib/x86_64-linux-gnu/libssl.so.3`
fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    // The path is the rest of the line, as spaces are not escaped in it.
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let rights = field()?;
    let (offset, device, inode) = (field()?, field()?, field()?);
    let (major, minor) = device.split_once(':')?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    let device = (u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?);
    let inode = inode.parse().ok().filter(|&inode| inode != 0)?;
    let path = fields.next()?.trim_ascii_start().to_vec();
    let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
    // Unlike here, the addresses in the names of links are not padded.
    let link = format!("{start:x}-{end:x}");
    let path = PathBuf::from(OsString::from_vec(path));
    let file = (device.0, device.1, inode);
    rights.contains('x').then_some(Mapping { link, file, path, start, end, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_counts() {
        let mapping =
            parse_mapping(b"00400000-00452000 r-xp 00001000 fe:00 173521      /usr/bin/a b").unwrap();
        assert_eq!(mapping.link, "400000-452000");
        assert_eq!(mapping.file, (0xfe, 0, 173_521));
        assert_eq!(mapping.path, Path::new("/usr/bin/a b"));
        for line in [
            "00400000-00452000 r--p 00001000 fe:00 173521      /usr/bin/a",
            "7ffc1000-7ffc2000 r-xp 00000000 00:00 0                  [vdso]",
            "7ffc1000-7ffc2000 rwxp 00000000 00:00 0",
            "7ffc1000 rwxp 00000000 00:00 5 /x",
            "zz-11 r-xp 00000000 00:00 5 /x",
            "00-11 r-xp 00000000 0000 5 /x",
            "",
        ] {
            assert_eq!(parse_mapping(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn our_own_code_has_its_place_in_our_file() {
        use std::os::unix::fs::FileExt;
        let function = our_own_code_has_its_place_in_our_file as *const ();
        let offset = file_offset(function as u64).unwrap().unwrap();
        let mut bytes = [0; 16];
        File::open("/proc/self/exe").unwrap().read_exact_at(&mut bytes, offset).unwrap();
        let mut loaded = [0; 16];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut loaded, function as u64).unwrap();
        assert_eq!(bytes, loaded);
        assert_eq!(file_offset(1).unwrap(), None);
    }

    #[test]
    fn our_own_code_is_among_our_mappings() {
        let exe = std::env::current_exe().unwrap();
        let mappings = code_mappings(Path::new("/proc/self")).unwrap();
        let ours = mappings.iter().find(|mapping| mapping.path == exe).unwrap();
        assert!(Path::new("/proc/self/map_files").join(&ours.link).symlink_metadata().is_ok());
    }
}
