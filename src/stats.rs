//! Named counters of each stage, and the closing lines.
