//! CPU executor.
