//! What to probe: the libraries of a target and where in them.
