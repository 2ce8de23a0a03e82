//! Frames → pcapng blocks → bytes.
