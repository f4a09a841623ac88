//! Storage encodings of packed weights.
