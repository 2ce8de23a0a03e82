//! What the user asked to capture → mount namespaces and processes.
