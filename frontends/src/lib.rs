//! castiron-frontends
