// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The kernel side of tlsdump: one translation unit, a header for each concern, in the order of the way of a
 * call: is it wanted? → which session? → what does it move, over which socket? → into the buffer. */
#include "vmlinux_min.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "abi.h"
#include "config.h"
#include "filter.h"
#include "emit.h"
#include "session.h"
#include "call.h"
#include "goroutine.h"
#include "sock.h"
#include "socket_name.h"
#include "bind.h"
#include "syscall.h"
#include "transfer.h"
#include "tls.h"
#include "life.h"
#include "name.h"
#include "packet.h"
#include "secret.h"
#include "derive.h"
#include "record.h"
#include "received.h"
#include "sent.h"
#include "witness.h"
#include "uring.h"
#include "nss.h"
#include "go.h"
#include "go_secret.h"
#include "rust.h"
#include "rustls.h"
#include "rustls_write.h"
#include "rustls_read.h"
#include "rustls_life.h"
#include "proc.h"

/* Keeps the types of records that are only built on the stack, for
 * src/source/live/layout.rs to check, in the BTF. */
const struct close_record close_record_type = {};
const struct exit_record exit_record_type = {};
const struct name_record name_record_type = {};
const struct secret_record secret_record_type = {};
const struct socket_name socket_name_type = {};

char LICENSE[] SEC("license") = "Dual BSD/GPL";
