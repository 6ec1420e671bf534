//! The conformance kit plays the host against the board.

use host::bus::ivshmem::{IvshmemBus, IvshmemOptions};
use host::conform::{Options, Outcome, run};

use crate::stage::{Folder, HANGS, board};

#[test]
fn it_passes_the_kit_whatever_lies_behind() {
    for arguments in [&["--behind", "stack"][..], &["--behind", "echo", "--bar-only"]] {
        let folder = Folder::new();
        let _board = board(&folder, arguments);
        let options = IvshmemOptions { patience: HANGS, ..IvshmemOptions::new(folder.socket()) };
        let mut bus = IvshmemBus::connect(options).unwrap();
        let report = run(&mut bus, &Options::default(), |_| {});
        let [passed, failed, _] = report.counts();
        let failures: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| matches!(finding.outcome, Outcome::Fail(_)))
            .collect();
        assert!(failed == 0 && passed > 150, "{arguments:?}: {passed} passed, {failures:?}");
    }
}
