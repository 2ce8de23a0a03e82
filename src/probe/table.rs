//! THE TABLE: which TLS libraries are known, how one is recognised, and what is hooked in it.
//!
//! To add a library whose functions have call shapes that are known already, add a row. Only a new call
//! shape needs a new [`Hook`] and its pair of programs in the kernel.

/// A call shape: how a function tells the session, the buffer, the length and the result. Each stands for
/// one program at the function's entry and, where the result matters, one at its return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// `int f(session, const buffer, int length)`: returns the number of bytes written, or ≤ 0.
    WriteInt,
    /// `int f(session, buffer, int size)`: returns the number of bytes read, or ≤ 0.
    ReadInt,
    /// `int f(session, const buffer, size_t length, size_t *written)`: returns 1 when bytes were written.
    WriteEx,
    /// `int f(session, buffer, size_t size, size_t *read)`: returns 1 when bytes were read.
    ReadEx,
    /// `f(session, int fd)`: the session uses this file descriptor.
    SetFd,
    /// `session f(…)`: returns a new session, or NULL.
    New,
    /// `f(session)`: the session ends; nothing of it is read.
    Free,
    /// `f(session)`: this side will write no more.
    Shutdown,
    /// `f(session)`: this side is the client.
    RoleClient,
    /// `f(session)`: this side is the server.
    RoleServer,
    /// `long f(session, int command, long, void *argument)`: command 55 tells the host asked for.
    Control,
    /// `const char *f(session, int)`: returns the host asked for.
    ServerName,
    /// `void f(session, const unsigned char **name, unsigned int *length)`: the protocol agreed on.
    Protocol,
}

/// One function of a library.
#[derive(Debug)]
pub struct Symbol {
    /// Its name, without symbol version.
    pub name: &'static str,
    /// What is done there.
    pub hook: Hook,
    /// Whether a file without it is not this library at all.
    pub required: bool,
}

/// One TLS library.
#[derive(Debug)]
pub struct Library {
    /// Its name, for people.
    pub name: &'static str,
    /// Names of files in which it is looked for ahead of use (`*` stands for any characters). Files that a
    /// process has mapped are looked at whatever their name: a Python wheel calls it `libssl-4bc2b4aa.so.3`,
    /// and node has it within the program.
    pub files: &'static [&'static str],
    /// Functions that are not hooked, but without which the file is another library of like names.
    pub marks: &'static [&'static str],
    /// The functions that are hooked.
    pub symbols: &'static [Symbol],
    /// Texts with a version number that the library has among its constants, up to the number.
    pub version_texts: &'static [&'static str],
    /// Beginnings of symbol version names and what they tell, the newest first. Used where there is no text.
    pub version_nodes: &'static [(&'static str, &'static str)],
}

const fn required(name: &'static str, hook: Hook) -> Symbol {
    Symbol { name, hook, required: true }
}

const fn optional(name: &'static str, hook: Hook) -> Symbol {
    Symbol { name, hook, required: false }
}

/// The functions of OpenSSL's interface. `SSL_peek` and `SSL_peek_ex` are left out on purpose: what they
/// return is returned again by the next read, so it would be counted twice.
const SSL_SYMBOLS: &[Symbol] = &[
    required("SSL_read", Hook::ReadInt),
    required("SSL_write", Hook::WriteInt),
    optional("SSL_read_ex", Hook::ReadEx),
    optional("SSL_write_ex", Hook::WriteEx),
    optional("SSL_set_fd", Hook::SetFd),
    optional("SSL_set_rfd", Hook::SetFd),
    optional("SSL_set_wfd", Hook::SetFd),
    optional("SSL_new", Hook::New),
    optional("SSL_free", Hook::Free),
    optional("SSL_shutdown", Hook::Shutdown),
    optional("SSL_connect", Hook::RoleClient),
    optional("SSL_accept", Hook::RoleServer),
    optional("SSL_set_connect_state", Hook::RoleClient),
    optional("SSL_set_accept_state", Hook::RoleServer),
    optional("SSL_ctrl", Hook::Control),
    optional("SSL_get_servername", Hook::ServerName),
    optional("SSL_get0_alpn_selected", Hook::Protocol),
];

const SSL_FILES: &[&str] = &["libssl*.so*", "libnode.so*", "node", "nodejs"];

/// The known libraries. The first row that fits is taken, so the more particular come first.
pub static TABLE: &[Library] = &[
    Library {
        name: "BoringSSL",
        files: SSL_FILES,
        // Of the libraries with this interface, only BoringSSL and its kin have the second.
        marks: &["SSL_do_handshake", "SSL_set_custom_verify"],
        symbols: SSL_SYMBOLS,
        version_texts: &["AWS-LC "],
        version_nodes: &[],
    },
    Library {
        // LibreSSL has the same call shapes, and is told by its text only.
        name: "OpenSSL",
        files: SSL_FILES,
        // GnuTLS's libgnutls-openssl has SSL_read and SSL_write, on an object of its own, but not this one.
        marks: &["SSL_do_handshake"],
        symbols: SSL_SYMBOLS,
        version_texts: &["OpenSSL ", "LibreSSL "],
        version_nodes: &[
            ("OPENSSL_4.", "OpenSSL 4"),
            ("OPENSSL_3.", "OpenSSL 3"),
            ("OPENSSL_1_1_1", "OpenSSL 1.1.1"),
            ("OPENSSL_1_1_0", "OpenSSL 1.1.0"),
        ],
    },
];

impl Library {
    /// Whether a file of that name is looked into ahead of use.
    #[must_use]
    pub fn may_be_in(&self, file_name: &[u8]) -> bool {
        self.files.iter().any(|pattern| matches(pattern.as_bytes(), file_name))
    }

    /// The names without which a file is not this library: required symbols and marks.
    pub fn needed(&self) -> impl Iterator<Item = &'static str> {
        let required = self.symbols.iter().filter(|symbol| symbol.required).map(|symbol| symbol.name);
        required.chain(self.marks.iter().copied())
    }
}

/// Whether a file of that name may hold any library of the table.
#[must_use]
pub fn may_hold_library(file_name: &[u8]) -> bool {
    TABLE.iter().any(|library| library.may_be_in(file_name))
}

/// Every name that some row asks for, each once.
#[must_use]
pub fn all_names() -> Vec<&'static str> {
    let hooked = TABLE.iter().flat_map(|library| library.symbols.iter().map(|symbol| symbol.name));
    let mut names: Vec<_> = hooked.chain(TABLE.iter().flat_map(|l| l.marks.iter().copied())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Shell-like matching where `*` is the only special character. Time is bounded by the product of lengths.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star, should what follows it not fit here.
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if pattern.get(p) == name.get(n) {
            p += 1;
            n += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            p = after;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_stars() {
        for (pattern, name, fits) in [
            ("libssl*.so*", "libssl.so.3", true),
            ("libssl*.so*", "libssl.so", true),
            ("libssl*.so*", "libssl-4bc2b4aa.so.3", true),
            ("libssl*.so*", "libssl.a", false),
            ("libssl*.so*", "xlibssl.so", false),
            ("node", "node", true),
            ("node", "nodes", false),
            ("node", "nod", false),
            ("*.conf", "x.conf", true),
            ("*.conf", "x.conf.bak", false),
            ("*a*b*", "xxabaxxb", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn rows_are_sound() {
        for library in TABLE {
            assert!(library.symbols.iter().any(|symbol| symbol.required), "{}", library.name);
            assert!(!library.files.is_empty(), "{}", library.name);
            let mut names: Vec<_> = library.symbols.iter().map(|symbol| symbol.name).collect();
            names.extend(library.marks);
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "a name twice in {}", library.name);
        }
        let names = all_names();
        assert!(names.iter().all(|name| name.len() <= super::super::elf::NAME_BYTES_MAX));
        assert!(!names.iter().any(|name| name.contains("peek")), "peeked bytes are not data");
    }

    #[test]
    fn both_directions_are_required_of_every_row() {
        for library in TABLE {
            let needed: Vec<_> = library.needed().collect();
            assert!(needed.contains(&"SSL_read") && needed.contains(&"SSL_write"), "{}", library.name);
        }
    }
}
