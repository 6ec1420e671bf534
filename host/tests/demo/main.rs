//! `vphys demo` as a user runs it: what they print, how they exit, and
//! that nothing is left behind. Each test runs in a network namespace of its
//! own, so it needs the right to make one, and /dev/net/tun; what only root can
//! stage is left out for others, and said so.

mod measurements;
mod refusals;
mod run;
mod shells;
mod signals;
mod streams;
