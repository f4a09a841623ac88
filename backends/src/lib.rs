//! castiron-backends
