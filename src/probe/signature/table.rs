//! What the functions of OpenSSL and its kin look like: data.
//!
//! A row can be added for what another version has otherwise; of several that give one name, the first that
//! finds something counts.

use crate::probe::table::Hook;

/// A register in which a function passes an argument to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Argument {
    /// The second, `esi`.
    Second,
    /// The third, `edx`.
    Third,
    /// One of these two: where a program is optimized as a whole, arguments that are not used are left out.
    Either,
}

/// What is done when several functions fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Several {
    /// None is taken.
    Refuse,
    /// The smallest is taken if it is the only one of its size: the others have it inlined, and more.
    Smallest,
    /// All are taken: whichever they are, or have inlined, they have the arguments and result of the hook.
    All,
    /// Those are taken that count in the field of an object that is farthest from its beginning, if there are
    /// others that count in another.
    LastCounter,
}

/// What a function looks like.
#[derive(Debug)]
pub(super) struct Signature {
    /// Its name.
    pub(super) name: &'static str,
    /// What is done there; None where it only serves to find others.
    pub(super) hook: Option<Hook>,
    /// A text of this end, that tells the source file, is used in it.
    pub(super) file: &'static str,
    /// This text is used in it: its own name.
    pub(super) text: Option<&'static str>,
    /// This text isn't.
    pub(super) no_text: Option<&'static str>,
    /// As which argument it passes numbers on.
    pub(super) argument: Argument,
    /// It passes all of these on.
    pub(super) numbers: &'static [u32],
    /// And none of these.
    pub(super) no_numbers: &'static [u32],
    /// It calls the function of this name.
    pub(super) calls: Option<&'static str>,
    /// It writes to an object, not only to its stack.
    pub(super) stores: bool,
    /// It is not longer, in bytes.
    pub(super) bytes_max: u64,
    /// Whether it takes a fifth argument, if that matters.
    pub(super) fifth: Option<bool>,
    /// What is done when several functions fit.
    pub(super) several: Several,
}

/// The signatures of one library.
#[derive(Debug)]
pub(super) struct Family {
    /// Name of its row in [`crate::probe::table::TABLE`].
    pub(super) library: &'static str,
    /// Functions without which it is not probed.
    pub(super) needed: &'static [&'static str],
    /// In an order in which each may refer to those before.
    pub(super) signatures: &'static [Signature],
}

/// Errors of `openssl/ssl.h` and `openssl/err.h` of BoringSSL, which are numbered once for all.
mod boring {
    pub(super) const BUF_LIB: u32 = 7;
    pub(super) const SHOULD_NOT_HAVE_BEEN_CALLED: u32 = 66;
    pub(super) const BAD_LENGTH: u32 = 111;
    pub(super) const CONNECTION_TYPE_NOT_SET: u32 = 134;
    pub(super) const NULL_SSL_CTX: u32 = 185;
    pub(super) const SSL_HANDSHAKE_FAILURE: u32 = 215;
    pub(super) const UNINITIALIZED: u32 = 226;
    pub(super) const INVALID_SERVER_NAME: u32 = 213;
    pub(super) const APPLICATION_DATA_ON_SHUTDOWN: u32 = 291;
    /// Of `openssl/bio.h`.
    pub(super) const BIO_UNINITIALIZED: u32 = 114;
    pub(super) const BIO_UNSUPPORTED_METHOD: u32 = 115;
    /// `ERR_R_OVERFLOW`.
    pub(super) const OVERFLOW: u32 = 69;
}

/// A row in which nothing is asked for but a file.
const PLAIN: Signature = Signature {
    name: "",
    hook: None,
    file: "",
    text: None,
    no_text: None,
    argument: Argument::Third,
    numbers: &[],
    no_numbers: &[],
    calls: None,
    stores: false,
    bytes_max: 2048,
    fifth: None,
    several: Several::Refuse,
};

const SSL_LIB_CC: Signature = Signature { file: "ssl_lib.cc", argument: Argument::Either, ..PLAIN };
/// Where BIO_write is inlined in others of its file, such as BIO_puts, these are taken too: what passes there
/// is looked at, and is no record.
const BORING_BIO: Signature = Signature {
    name: "BIO_write",
    hook: Some(Hook::Record),
    argument: Argument::Either,
    numbers: &[boring::BIO_UNINITIALIZED, boring::BIO_UNSUPPORTED_METHOD],
    no_numbers: &[boring::OVERFLOW],
    bytes_max: 512,
    several: Several::LastCounter,
    ..PLAIN
};

/// BoringSSL passes the reason of an error as the third argument of `ERR_put_error`.
const BORING: &[Signature] = &[
    Signature {
        name: "ssl_read_impl",
        numbers: &[boring::UNINITIALIZED, boring::SSL_HANDSHAKE_FAILURE],
        no_numbers: &[boring::SHOULD_NOT_HAVE_BEEN_CALLED, boring::BAD_LENGTH],
        bytes_max: 8192,
        ..SSL_LIB_CC
    },
    // SSL_peek differs from it in that it changes nothing.
    Signature {
        name: "SSL_read",
        hook: Some(Hook::ReadInt),
        numbers: &[boring::SHOULD_NOT_HAVE_BEEN_CALLED],
        no_numbers: &[boring::UNINITIALIZED],
        calls: Some("ssl_read_impl"),
        stores: true,
        bytes_max: 768,
        ..SSL_LIB_CC
    },
    Signature {
        name: "SSL_write",
        hook: Some(Hook::WriteInt),
        numbers: &[
            boring::SHOULD_NOT_HAVE_BEEN_CALLED,
            boring::UNINITIALIZED,
            boring::SSL_HANDSHAKE_FAILURE,
            boring::BAD_LENGTH,
        ],
        ..SSL_LIB_CC
    },
    // Until 2022 the length was checked elsewhere.
    Signature {
        name: "SSL_write",
        hook: Some(Hook::WriteInt),
        numbers: &[boring::SHOULD_NOT_HAVE_BEEN_CALLED, boring::UNINITIALIZED, boring::SSL_HANDSHAKE_FAILURE],
        ..SSL_LIB_CC
    },
    Signature {
        name: "SSL_do_handshake",
        hook: Some(Hook::Flush),
        numbers: &[boring::CONNECTION_TYPE_NOT_SET],
        several: Several::Smallest,
        ..SSL_LIB_CC
    },
    Signature {
        name: "SSL_shutdown",
        hook: Some(Hook::Shutdown),
        numbers: &[boring::UNINITIALIZED, boring::APPLICATION_DATA_ON_SHUTDOWN],
        no_numbers: &[boring::SHOULD_NOT_HAVE_BEEN_CALLED],
        ..SSL_LIB_CC
    },
    Signature {
        name: "SSL_new",
        hook: Some(Hook::New),
        numbers: &[boring::NULL_SSL_CTX],
        bytes_max: 8192,
        ..SSL_LIB_CC
    },
    Signature {
        name: "SSL_set_tlsext_host_name",
        hook: Some(Hook::HostName),
        numbers: &[boring::INVALID_SERVER_NAME],
        bytes_max: 512,
        ..SSL_LIB_CC
    },
    // And SSL_set_rfd and SSL_set_wfd.
    Signature {
        name: "SSL_set_fd",
        hook: Some(Hook::SetFd),
        numbers: &[boring::BUF_LIB],
        bytes_max: 512,
        several: Several::All,
        ..SSL_LIB_CC
    },
    Signature { file: "bio.cc", ..BORING_BIO },
    Signature { file: "bio.c", ..BORING_BIO },
];

const SSL_LIB_C: Signature = Signature { file: "ssl_lib.c", argument: Argument::Second, ..PLAIN };

/// Since OpenSSL 3 an error is told with the name of the function (`ERR_set_debug`).
const OPENSSL_3: &[Signature] = &[
    Signature { name: "SSL_read", hook: Some(Hook::ReadInt), text: Some("SSL_read"), ..SSL_LIB_C },
    Signature { name: "SSL_write", hook: Some(Hook::WriteInt), text: Some("SSL_write"), ..SSL_LIB_C },
    // Where they are inlined, it is in SSL_read_ex and SSL_write_ex.
    Signature {
        name: "ssl_read_internal",
        hook: Some(Hook::ReadEx),
        text: Some("ssl_read_internal"),
        no_text: Some("SSL_read"),
        several: Several::All,
        ..SSL_LIB_C
    },
    Signature {
        name: "ssl_write_internal",
        hook: Some(Hook::WriteEx),
        text: Some("ssl_write_internal"),
        no_text: Some("SSL_write"),
        fifth: Some(false),
        several: Several::All,
        ..SSL_LIB_C
    },
    // It has flags since OpenSSL 3.3.
    Signature {
        name: "ssl_write_internal",
        hook: Some(Hook::WriteExFlags),
        text: Some("ssl_write_internal"),
        no_text: Some("SSL_write"),
        fifth: Some(true),
        ..SSL_LIB_C
    },
    Signature {
        name: "SSL_do_handshake",
        hook: Some(Hook::Flush),
        text: Some("SSL_do_handshake"),
        several: Several::Smallest,
        ..SSL_LIB_C
    },
    Signature { name: "SSL_new", hook: Some(Hook::New), text: Some("SSL_new"), bytes_max: 8192, ..SSL_LIB_C },
    Signature { name: "SSL_shutdown", hook: Some(Hook::Shutdown), text: Some("SSL_shutdown"), ..SSL_LIB_C },
    Signature { name: "SSL_set_fd", hook: Some(Hook::SetFd), text: Some("SSL_set_fd"), ..SSL_LIB_C },
    Signature { name: "SSL_set_rfd", hook: Some(Hook::SetFd), text: Some("SSL_set_rfd"), ..SSL_LIB_C },
    Signature { name: "SSL_set_wfd", hook: Some(Hook::SetFd), text: Some("SSL_set_wfd"), ..SSL_LIB_C },
    Signature {
        name: "SSL_read_early_data",
        hook: Some(Hook::ReadEx),
        text: Some("SSL_read_early_data"),
        ..SSL_LIB_C
    },
    Signature {
        name: "SSL_write_early_data",
        hook: Some(Hook::WriteEx),
        text: Some("SSL_write_early_data"),
        ..SSL_LIB_C
    },
    Signature {
        name: "SSL_sendfile",
        hook: Some(Hook::WriteUnseen),
        text: Some("SSL_sendfile"),
        ..SSL_LIB_C
    },
    // It is inlined in BIO_write and BIO_write_ex, the first arguments of which are the same.
    Signature {
        name: "BIO_write",
        hook: Some(Hook::Record),
        file: "bio_lib.c",
        text: Some("bio_write_intern"),
        several: Several::All,
        ..PLAIN
    },
];

/// Before, each function had a number, the second argument of `ERR_put_error`: `SSL_F_SSL_READ` and so on of
/// `openssl/sslerr.h`, the same from 1.0.2 to 1.1.1.
const OPENSSL_1: &[Signature] = &[
    Signature { name: "SSL_read", hook: Some(Hook::ReadInt), numbers: &[223], ..SSL_LIB_C },
    Signature { name: "SSL_write", hook: Some(Hook::WriteInt), numbers: &[208], ..SSL_LIB_C },
    Signature {
        name: "ssl_read_internal",
        hook: Some(Hook::ReadEx),
        numbers: &[523],
        no_numbers: &[223],
        several: Several::All,
        ..SSL_LIB_C
    },
    Signature {
        name: "ssl_write_internal",
        hook: Some(Hook::WriteEx),
        numbers: &[524],
        no_numbers: &[208],
        several: Several::All,
        ..SSL_LIB_C
    },
    Signature {
        name: "SSL_do_handshake",
        hook: Some(Hook::Flush),
        numbers: &[180],
        several: Several::Smallest,
        ..SSL_LIB_C
    },
    Signature { name: "SSL_new", hook: Some(Hook::New), numbers: &[186], bytes_max: 8192, ..SSL_LIB_C },
    Signature { name: "SSL_shutdown", hook: Some(Hook::Shutdown), numbers: &[224], ..SSL_LIB_C },
    Signature { name: "SSL_set_fd", hook: Some(Hook::SetFd), numbers: &[192], ..SSL_LIB_C },
    Signature { name: "SSL_set_rfd", hook: Some(Hook::SetFd), numbers: &[194], ..SSL_LIB_C },
    Signature { name: "SSL_set_wfd", hook: Some(Hook::SetFd), numbers: &[196], ..SSL_LIB_C },
    Signature { name: "SSL_read_early_data", hook: Some(Hook::ReadEx), numbers: &[529], ..SSL_LIB_C },
    Signature { name: "SSL_write_early_data", hook: Some(Hook::WriteEx), numbers: &[526], ..SSL_LIB_C },
    Signature {
        name: "BIO_write",
        hook: Some(Hook::Record),
        file: "bio_lib.c",
        numbers: &[128],
        argument: Argument::Second,
        several: Several::All,
        ..PLAIN
    },
];

const NEEDED: &[&str] = &["SSL_read", "SSL_write"];

/// All families. The first of which all that is needed is found is taken.
pub(super) static FAMILIES: &[Family] = &[
    Family { library: "BoringSSL", needed: NEEDED, signatures: BORING },
    Family { library: "OpenSSL", needed: NEEDED, signatures: OPENSSL_3 },
    Family { library: "OpenSSL", needed: NEEDED, signatures: OPENSSL_1 },
];

/// Every text that tells a source file: the end of a path, or all of it.
pub(super) fn files() -> Vec<&'static str> {
    unique(all().map(|signature| signature.file))
}

/// Every other text.
pub(super) fn names() -> Vec<&'static str> {
    unique(all().flat_map(|signature| [signature.text, signature.no_text]).flatten())
}

fn all() -> impl Iterator<Item = &'static Signature> {
    FAMILIES.iter().flat_map(|family| family.signatures)
}

fn unique(texts: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::table::TABLE;

    #[test]
    fn rows_are_sound() {
        for family in FAMILIES {
            let library = TABLE.iter().find(|library| library.name == family.library).unwrap();
            for name in family.needed {
                assert!(family.signatures.iter().any(|s| s.name == *name && s.hook.is_some()), "{name}");
            }
            for (i, signature) in family.signatures.iter().enumerate() {
                let name = signature.name;
                assert!(!signature.file.is_empty() && signature.bytes_max <= 8192, "{name}");
                assert!(signature.text.is_some() || !signature.numbers.is_empty(), "{name}: any would do");
                if let Some(called) = signature.calls {
                    assert!(
                        family.signatures[..i].iter().any(|s| s.name == called),
                        "{name}: {called} first"
                    );
                }
                if let Some(symbol) = library.symbols.iter().find(|symbol| symbol.name == name) {
                    assert_eq!(Some(symbol.hook), signature.hook, "{name}");
                }
            }
        }
    }
}
