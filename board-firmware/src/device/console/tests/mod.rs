//! The console over plain memory, driven as a host would, well and badly.

mod device;
mod log;
mod shell;
