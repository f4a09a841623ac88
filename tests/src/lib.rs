//! castiron-tests
