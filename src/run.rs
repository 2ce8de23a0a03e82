//! Wiring: source, pipeline, output, stop.
