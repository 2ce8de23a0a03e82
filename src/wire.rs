//! Record bytes ↔ events: the only place that knows the layout of `bpf/abi.h`.
