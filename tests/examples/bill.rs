//! Prints what a packet costs on the bus, for every layout: the tables of
//! docs/testing.md, "The bill".

use virtio_phys_tests::bill::Table;
use virtio_phys_tests::lockstep::Failure;

fn main() -> Result<(), Failure> {
    print!("{}", Table::measure()?);
    Ok(())
}
