//! castiron-passes
