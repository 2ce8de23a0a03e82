//! Where records come from: the kernel, or a recorded stream.
