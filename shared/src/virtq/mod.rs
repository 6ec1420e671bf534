//! Split virtqueues.
