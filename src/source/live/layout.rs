//! The layout that `crate::wire` reads is the one that `bpf/abi.h` has: checked when the crate is built.

use std::mem::{offset_of, size_of};

use crate::event::{RANDOM_BYTES, SECRET_BYTES_MAX};
use crate::wire;

use super::skel::types;

const _: () = {
    assert!(size_of::<types::record_header>() == wire::HEADER_BYTES);
    assert!(size_of::<types::context>() == wire::CONTEXT_BYTES);
    assert!(size_of::<types::data_record>() == wire::DATA_HEADER_BYTES);
    assert!(offset_of!(types::context, task) == wire::TASK_IN_CONTEXT);
    assert!(offset_of!(types::context, conn) == wire::CONN_IN_CONTEXT);
    assert!(offset_of!(types::conn_info, family) == 0);
    assert!(offset_of!(types::data_record, dir) == wire::DIR_IN_DATA);
    assert!(offset_of!(types::exit_record, task) == wire::TASK_IN_EXIT);
    assert!(size_of::<types::exit_record>() == wire::TASK_IN_EXIT + size_of::<types::task_info>());
    assert!(offset_of!(types::close_record, totals) == wire::CONTEXT_BYTES);
    assert!(size_of::<types::close_record>() == wire::CONTEXT_BYTES + 24);
    assert!(size_of::<types::name_record>() == wire::CONTEXT_BYTES + 8);
    assert!(offset_of!(types::session, context) == 0);
    assert!(offset_of!(types::session, totals) == wire::CONTEXT_BYTES);
    assert!(size_of::<types::secret_record>() == wire::CONTEXT_BYTES + 8 + RANDOM_BYTES + SECRET_BYTES_MAX);
    assert!(size_of::<types::counters>() == 8 * 8);
    assert!(size_of::<types::scratch>() <= wire::RECORD_BYTES_MAX);
};
