//! Control block, epochs and bring-up.
