mod channel;
mod codec;
mod driver;
mod golden;
mod samples;
mod status;
