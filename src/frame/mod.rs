//! Segments → Ethernet frames. Pure: no I/O, no clock.
