//! THE TABLE: which TLS libraries are known, how one is recognised, and what is hooked in it.
//!
//! To add a library whose functions have call shapes that are known already, add a row. Only a new call
//! shape needs a new [`Hook`] and its pair of programs in the kernel.

use super::go::{self, Abi, Site};
use super::rustls;

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
    /// `f(session)`: the session object is made ready for another connection.
    Clear,
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
    /// `ssize_t f(session, const buffer, …)`: returns the number of bytes written, or a negative number.
    WriteLong,
    /// `ssize_t f(session, buffer, …)`: returns the number of bytes read, or a negative number.
    ReadLong,
    /// `f(session, const buffer, size_t length)`: writes all, unless it returns a negative number.
    WriteAll,
    /// `int f(session, const buffer, size_t length, uint64_t flags, size_t *written)`: returns 1 when bytes
    /// were written.
    WriteExFlags,
    /// `ssize_t f(session, …)`: returns the number of bytes written, which are in no buffer, or in several:
    /// they are told as lost.
    WriteUnseen,
    /// `f(session, …)`: sends what no function of the table writes meanwhile: bytes that were written before,
    /// or the handshake. Other functions of the table inside it are part of it.
    Flush,
    /// `int f(session *, unsigned int flags)`: returns 0 for a new session; flag 1 for a server, 2 for a
    /// client.
    NewOut,
    /// `f(session)`: a new session from here on.
    Renew,
    /// `f(session, void *)`: the session uses this file descriptor, if it is one.
    SetPointer,
    /// `f(session, const char *)`: the host asked for.
    HostName,
    /// `f(session, int type, const void *name, size_t length)`: the host asked for.
    HostNameBytes,
    /// `int f(session, char name[], size_t *length, …)`: returns 0 and the host asked for.
    ServerNameCopied,
    /// `const char *f(session)`: returns the protocol agreed on.
    ProtocolString,
    /// `int f(session, struct { unsigned char *name; unsigned int length; } *)`: returns 0 and the protocol
    /// agreed on.
    ProtocolDatum,
    /// `int f(session, char **name, unsigned short *length)`: returns 1 and the protocol agreed on.
    ProtocolShort,
    /// `ssize_t f(session, packet *)`: returns the number of bytes read, which are in a packet.
    PacketRead,
    /// `void f(packet, struct { unsigned char *bytes; unsigned int length; } *, …)`: where the bytes are.
    PacketGet,
    /// `void f(packet)`: the packet is gone.
    PacketFree,
    /// `f(session)`: the session ends, and nobody refers to it any more.
    Close,
    /// `int f(session, buffer, int size, int flags)`: the same as [`Self::ReadInt`], but with flag 2 it only
    /// looks.
    ReadIntFlags,
    /// `descriptor f(…)` of NSS: returns a descriptor with a new session, or NULL.
    NssImport,
    /// `f(session, PRShutdownHow)` of NSS: this side will write no more, unless the second is 0.
    NssShutdown,
    /// `f(descriptor, PRBool)` of NSS: this side is the server, or the client.
    NssReset,
    /// `f(descriptor, PRInt32 option, PRIntn)` of NSS: options 5 and 6 tell the side.
    NssOption,
    /// `f(descriptor, const char *)` of NSS: the host asked for.
    NssHostName,
    /// `int f(descriptor, state *, char name[], unsigned int *length, …)` of NSS: returns 0 and the protocol
    /// agreed on.
    NssProtocol,
    /// `int f(BIO, const void *, int)`: a TLS record of the library goes to the network or to memory. It is
    /// probed only where programs are that send records by themselves.
    Record,
    /// `int f(KDF, unsigned char *key, size_t length, const OSSL_PARAM parameters[])`: a secret is derived.
    Derive,
    /// `int f(BIO, void *, int)`: the library reads what was received. It is probed only for a while.
    RecordRead,
    /// `int f(context, int, int, int command, int length, void *)` of OpenSSL 1.1.1: a parameter of a
    /// derivation.
    DeriveControl,
    /// `int f(context, unsigned char *key, size_t *length)` of OpenSSL 1.1.1: a secret is derived.
    DeriveKey,
    /// `int f(unsigned char *key, size_t length, …, const unsigned char *info, size_t)` of BoringSSL: a
    /// secret is derived.
    DeriveExpand,
    /// `int f(…, const unsigned char *secret, size_t, const char *label, size_t, const unsigned char *seed1,
    /// size_t, const unsigned char *seed2, size_t)` of BoringSSL: keys of TLS 1.2 are derived.
    DeriveKeys,
    /// `void f(…, size_t, const unsigned char *info, size_t length, unsigned char *key)` of nettle, which
    /// GnuTLS uses: a secret is derived.
    DeriveVoid,
    /// `int f(…, size_t, const void *master, size_t, const char *label, size_t, const void *seed, …)` of
    /// GnuTLS: keys of TLS 1.2 are derived.
    DeriveMaster,
    /// A place in Go's `crypto/tls`, rather than a function.
    Go(Site, Abi),
    /// A function within rustls.
    Rustls(rustls::Site),
}

/// What a hook is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Plaintext, and whose it is.
    Plaintext,
    /// The socket of records that the program sends by itself.
    Records,
    /// Secrets.
    Secrets,
}

impl Hook {
    /// What it is good for.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Record | Self::RecordRead => Purpose::Records,
            Self::Derive
            | Self::DeriveControl
            | Self::DeriveKey
            | Self::DeriveExpand
            | Self::DeriveKeys
            | Self::DeriveVoid
            | Self::DeriveMaster
            | Self::Go(Site::Secret, _) => Purpose::Secrets,
            _ => Purpose::Plaintext,
        }
    }
}

impl Hook {
    /// Whether what the program reads or writes passes through it.
    #[must_use]
    pub fn moves_data(self) -> bool {
        use Hook::{
            ReadEx, ReadInt, ReadIntFlags, ReadLong, WriteAll, WriteEx, WriteExFlags, WriteInt, WriteLong,
        };
        matches!(self, ReadEx | ReadInt | ReadIntFlags | ReadLong)
            || matches!(self, WriteAll | WriteEx | WriteExFlags | WriteInt | WriteLong)
    }
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

/// Functions that have no name in the file: how they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// By NSS's table of what a session does: see [`super::nss`].
    Nss,
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
    /// Further functions, without which the file can't be probed.
    pub unnamed: Option<Unnamed>,
    /// The function that gives the client's random number of a session, its first argument.
    pub random: Option<&'static str>,
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
    optional("SSL_clear", Hook::Clear),
    optional("SSL_free", Hook::Free),
    optional("SSL_shutdown", Hook::Shutdown),
    required("SSL_do_handshake", Hook::Flush),
    optional("SSL_connect", Hook::RoleClient),
    optional("SSL_accept", Hook::RoleServer),
    optional("SSL_set_connect_state", Hook::RoleClient),
    optional("SSL_set_accept_state", Hook::RoleServer),
    optional("SSL_ctrl", Hook::Control),
    optional("SSL_get_servername", Hook::ServerName),
    optional("SSL_get0_alpn_selected", Hook::Protocol),
    optional("SSL_read_early_data", Hook::ReadEx),
    optional("SSL_write_early_data", Hook::WriteEx),
    optional("SSL_write_ex2", Hook::WriteExFlags),
    optional("SSL_sendfile", Hook::WriteUnseen),
    // BoringSSL has it as a function.
    optional("SSL_set_tlsext_host_name", Hook::HostName),
    // Where the library is part of a program.
    optional("BIO_write", Hook::Record),
    // BoringSSL's and LibreSSL's, where they are one file with the rest.
    optional("HKDF_expand", Hook::DeriveExpand),
    optional("CRYPTO_tls1_prf", Hook::DeriveKeys),
];

/// The functions of GnuTLS's interface. `gnutls_record_send_file` calls `gnutls_record_send` with what it has
/// read of the file.
const GNUTLS_SYMBOLS: &[Symbol] = &[
    required("gnutls_record_recv", Hook::ReadLong),
    required("gnutls_record_send", Hook::WriteLong),
    required("gnutls_handshake", Hook::Flush),
    optional("gnutls_record_send2", Hook::WriteLong),
    optional("gnutls_record_send_range", Hook::WriteLong),
    optional("gnutls_record_send_early_data", Hook::WriteAll),
    optional("gnutls_record_uncork", Hook::Flush),
    optional("gnutls_record_recv_seq", Hook::ReadLong),
    optional("gnutls_record_recv_early_data", Hook::ReadLong),
    optional("gnutls_record_recv_packet", Hook::PacketRead),
    optional("gnutls_packet_get", Hook::PacketGet),
    optional("gnutls_packet_deinit", Hook::PacketFree),
    optional("gnutls_init", Hook::NewOut),
    optional("gnutls_deinit", Hook::Close),
    optional("gnutls_bye", Hook::Shutdown),
    optional("gnutls_transport_set_int2", Hook::SetFd),
    optional("gnutls_transport_set_ptr", Hook::SetPointer),
    optional("gnutls_transport_set_ptr2", Hook::SetPointer),
    optional("gnutls_server_name_set", Hook::HostNameBytes),
    optional("gnutls_server_name_get", Hook::ServerNameCopied),
    optional("gnutls_alpn_get_selected_protocol", Hook::ProtocolDatum),
    optional("_gnutls_prf_raw", Hook::DeriveMaster),
];

/// The functions of mbedTLS's interface. A step of the handshake tells which side it is.
const MBEDTLS_SYMBOLS: &[Symbol] = &[
    required("mbedtls_ssl_read", Hook::ReadInt),
    required("mbedtls_ssl_write", Hook::WriteInt),
    required("mbedtls_ssl_handshake", Hook::Flush),
    optional("mbedtls_ssl_read_early_data", Hook::ReadInt),
    optional("mbedtls_ssl_write_early_data", Hook::WriteInt),
    optional("mbedtls_ssl_init", Hook::Renew),
    optional("mbedtls_ssl_session_reset", Hook::Renew),
    optional("mbedtls_ssl_free", Hook::Close),
    optional("mbedtls_ssl_close_notify", Hook::Shutdown),
    optional("mbedtls_ssl_handshake_client_step", Hook::RoleClient),
    optional("mbedtls_ssl_handshake_server_step", Hook::RoleServer),
    optional("mbedtls_ssl_set_hostname", Hook::HostName),
    optional("mbedtls_ssl_get_alpn_protocol", Hook::ProtocolString),
];

/// The functions of wolfSSL's interface. `wolfSSL_peek` is left out as `SSL_peek` is; `wolfSSL_writev` calls
/// `wolfSSL_write`.
const WOLFSSL_SYMBOLS: &[Symbol] = &[
    required("wolfSSL_read", Hook::ReadInt),
    required("wolfSSL_write", Hook::WriteInt),
    optional("wolfSSL_recv", Hook::ReadInt),
    optional("wolfSSL_send", Hook::WriteInt),
    optional("wolfSSL_set_fd", Hook::SetFd),
    optional("wolfSSL_set_read_fd", Hook::SetFd),
    optional("wolfSSL_set_write_fd", Hook::SetFd),
    optional("wolfSSL_new", Hook::New),
    optional("wolfSSL_clear", Hook::Clear),
    optional("wolfSSL_free", Hook::Free),
    optional("wolfSSL_shutdown", Hook::Shutdown),
    optional("wolfSSL_connect", Hook::RoleClient),
    optional("wolfSSL_accept", Hook::RoleServer),
    optional("wolfSSL_set_connect_state", Hook::RoleClient),
    optional("wolfSSL_set_accept_state", Hook::RoleServer),
    optional("wolfSSL_UseSNI", Hook::HostNameBytes),
    optional("wolfSSL_set_tlsext_host_name", Hook::HostName),
    optional("wolfSSL_get_servername", Hook::ServerName),
    optional("wolfSSL_ALPN_GetProtocol", Hook::ProtocolShort),
    optional("wolfSSL_get0_alpn_selected", Hook::Protocol),
];

/// The functions of s2n's interface.
const S2N_SYMBOLS: &[Symbol] = &[
    required("s2n_recv", Hook::ReadLong),
    required("s2n_send", Hook::WriteLong),
    optional("s2n_sendv", Hook::WriteUnseen),
    optional("s2n_sendv_with_offset", Hook::WriteUnseen),
    optional("s2n_connection_new", Hook::New),
    optional("s2n_connection_wipe", Hook::Renew),
    optional("s2n_connection_free", Hook::Close),
    optional("s2n_shutdown", Hook::Shutdown),
    optional("s2n_connection_set_fd", Hook::SetFd),
    optional("s2n_connection_set_read_fd", Hook::SetFd),
    optional("s2n_connection_set_write_fd", Hook::SetFd),
    optional("s2n_set_server_name", Hook::HostName),
    optional("s2n_get_server_name", Hook::ServerName),
    optional("s2n_get_application_protocol", Hook::ProtocolString),
];

/// The functions of NSS's interface that tell of sessions. What reads and writes has no name.
const NSS_SYMBOLS: &[Symbol] = &[
    required("SSL_ImportFD", Hook::NssImport),
    optional("SSL_ResetHandshake", Hook::NssReset),
    optional("SSL_OptionSet", Hook::NssOption),
    optional("SSL_SetURL", Hook::NssHostName),
    optional("SSL_GetNextProto", Hook::NssProtocol),
];

/// Also modules of Python that have it within (of cryptography and of curl_cffi), and Java's.
const SSL_FILES: &[&str] = &[
    "libssl*.so*",
    "libnode.so*",
    "node",
    "nodejs",
    "_rust.abi3.so",
    "_wrapper.abi3.so",
    "libnetty_tcnative*.so",
    "libconscrypt*.so",
];
/// Programs and plugins that have it within, too.
const BORING_FILES: &[&str] = &[
    "libssl*.so*",
    "envoy",
    "bun",
    "chrome",
    "chromium",
    "headless_shell",
    "chrome-headless-shell",
    "electron",
    "cygrpc*.so",
    "_wrapper.abi3.so",
    "libnetty_tcnative*.so",
    "libconscrypt*.so",
];

/// The known libraries. The first row that fits is taken, and of several with one name, so the more
/// particular come first.
pub static TABLE: &[Library] = &[
    Library {
        name: "BoringSSL",
        files: BORING_FILES,
        // Of the libraries with this interface, only BoringSSL and its kin have it.
        marks: &["SSL_set_custom_verify"],
        symbols: SSL_SYMBOLS,
        unnamed: None,
        random: Some("SSL_get_client_random"),
        version_texts: &["AWS-LC "],
        version_nodes: &[],
    },
    Library {
        // LibreSSL has the same call shapes, and is told by its text only.
        name: "OpenSSL",
        files: SSL_FILES,
        // GnuTLS's libgnutls-openssl has SSL_read and SSL_write, on an object of its own, but not
        // SSL_do_handshake.
        marks: &[],
        symbols: SSL_SYMBOLS,
        unnamed: None,
        random: Some("SSL_get_client_random"),
        version_texts: &["OpenSSL ", "LibreSSL "],
        version_nodes: &[
            ("OPENSSL_4.", "OpenSSL 4"),
            ("OPENSSL_3.", "OpenSSL 3"),
            ("OPENSSL_1_1_1", "OpenSSL 1.1.1"),
            ("OPENSSL_1_1_0", "OpenSSL 1.1.0"),
        ],
    },
    Library {
        name: "GnuTLS",
        files: &["libgnutls.so*"],
        marks: &[],
        symbols: GNUTLS_SYMBOLS,
        unnamed: None,
        random: Some("gnutls_session_get_random"),
        version_texts: &[],
        version_nodes: &[],
    },
    Library {
        name: "NSS",
        files: &["libssl3*.so*"],
        marks: &["SSL_ForceHandshake"],
        symbols: NSS_SYMBOLS,
        unnamed: Some(Unnamed::Nss),
        random: None,
        version_texts: &[],
        version_nodes: &[],
    },
    Library {
        name: "mbedTLS",
        files: &["libmbedtls*.so*"],
        marks: &[],
        symbols: MBEDTLS_SYMBOLS,
        unnamed: None,
        random: None,
        version_texts: &["mbed TLS ", "Mbed TLS "],
        version_nodes: &[],
    },
    Library {
        name: "wolfSSL",
        files: &["libwolfssl*.so*"],
        marks: &["wolfSSL_negotiate"],
        symbols: WOLFSSL_SYMBOLS,
        unnamed: None,
        random: None,
        version_texts: &[],
        version_nodes: &[],
    },
    Library {
        name: "s2n",
        files: &["libs2n*.so*"],
        marks: &["s2n_negotiate"],
        symbols: S2N_SYMBOLS,
        unnamed: None,
        random: None,
        version_texts: &[],
        version_nodes: &[],
    },
    Library {
        // No TLS in it, but what OpenSSL's libraries write their records and derive their secrets with.
        name: "libcrypto",
        files: &["libcrypto*.so*"],
        marks: &["BIO_s_mem", "EVP_CIPHER_CTX_new", "EVP_KDF_fetch"],
        symbols: &[
            required("BIO_write", Hook::Record),
            optional("BIO_read", Hook::RecordRead),
            optional("EVP_KDF_derive", Hook::Derive),
        ],
        unnamed: None,
        random: None,
        version_texts: &["OpenSSL "],
        version_nodes: &[],
    },
    Library {
        // Before OpenSSL 3, and of others.
        name: "libcrypto",
        files: &["libcrypto*.so*"],
        marks: &["BIO_s_mem", "EVP_CIPHER_CTX_new"],
        symbols: &[
            required("BIO_write", Hook::Record),
            optional("BIO_read", Hook::RecordRead),
            optional("EVP_PKEY_CTX_ctrl", Hook::DeriveControl),
            optional("EVP_PKEY_derive", Hook::DeriveKey),
            optional("HKDF_expand", Hook::DeriveExpand),
            optional("CRYPTO_tls1_prf", Hook::DeriveKeys),
        ],
        unnamed: None,
        random: None,
        version_texts: &["OpenSSL ", "LibreSSL "],
        version_nodes: &[],
    },
    Library {
        // What GnuTLS derives its secrets with.
        name: "nettle",
        files: &["libnettle*.so*"],
        marks: &[],
        symbols: &[required("nettle_hkdf_expand", Hook::DeriveVoid)],
        unnamed: None,
        random: None,
        version_texts: &[],
        version_nodes: &[],
    },
];

/// Programs that send and receive records by themselves, which their library has in memory: their names, and
/// those of files that they map.
const RECORD_SENDERS: &[&str] = &[
    "python3*",
    "_ssl.*.so",
    "node",
    "nodejs",
    "libnode.so*",
    "bun",
    "chrome",
    "chromium",
    "headless_shell",
    "chrome-headless-shell",
    "electron",
    "cygrpc*.so",
    "libnetty_tcnative*.so*",
    "libnetty-tcnative*.so*",
    "libconscrypt*.so*",
];

/// Whether a file of that name shows that [`Hook::Record`] is worth its cost.
#[must_use]
pub fn may_send_records(file_name: &[u8]) -> bool {
    RECORD_SENDERS.iter().any(|pattern| matches(pattern.as_bytes(), file_name))
}

/// What there is to say of a library that is found by other means than names of files and the symbols of C.
pub const NAMELESS: Library = Library {
    name: "",
    files: &[],
    marks: &[],
    symbols: &[],
    unnamed: None,
    random: None,
    version_texts: &[],
    version_nodes: &[],
};

/// Go's own library, which is part of each program that uses it.
pub static GO: Library = Library { name: "Go crypto/tls", ..NAMELESS };

/// Rust's own library, which is part of each program that uses it: found by its functions' Rust names.
pub static RUSTLS: Library = Library { name: "rustls", ..NAMELESS };

impl Library {
    /// Whether a file of that name is looked into ahead of use.
    #[must_use]
    pub fn may_be_in(&self, file_name: &[u8]) -> bool {
        self.files.iter().any(|pattern| matches(pattern.as_bytes(), file_name))
    }

    /// Whether plaintext passes through it, and not only records.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.symbols.iter().any(|symbol| symbol.hook.purpose() == Purpose::Plaintext)
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

/// Every name that some row, or Go, asks for, each once.
#[must_use]
pub fn all_names() -> Vec<&'static str> {
    let hooked = TABLE.iter().flat_map(|library| library.symbols.iter().map(|symbol| symbol.name));
    let marks = TABLE.iter().flat_map(|library| library.marks.iter().copied());
    let randoms = TABLE.iter().filter_map(|library| library.random);
    let mut names: Vec<_> = hooked.chain(marks).chain(randoms).chain(go::names()).collect();
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
        for library in TABLE.iter().filter(|library| library.unnamed.is_none() && library.is_tls()) {
            let required = |ending: &[&str]| {
                library.symbols.iter().any(|s| s.required && ending.iter().any(|end| s.name.ends_with(end)))
            };
            let both = required(&["_read", "_recv"]) && required(&["_write", "_send"]);
            assert!(both, "{}", library.name);
        }
    }
}
