mod channel;
mod codec;
mod driver;
pub(crate) mod samples;
mod status;
