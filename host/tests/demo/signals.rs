//! Whoever is asked to end does: at once, cleanly, and says so.

use nix::sys::signal::Signal;

use crate::run::{Tun, staged, start};

#[test]
fn the_demo_in_mid_run() {
    staged("signals::the_demo_in_mid_run", Tun::Everybodys, |stage| {
        for (signal, status) in
            [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)]
        {
            let mut demo = start(&mut stage.demo("--seconds 3600"), true);
            demo.says("TCP to the board").signal(signal);
            let ran = demo.end();
            assert_eq!(ran.code, Some(status), "{ran:#?}");
            ran.said(&[&format!("ended by {signal} before it was done")]);
            assert_eq!(ran.out, "");
        }
    });
}

#[test]
fn the_demo_while_it_attaches() {
    staged("signals::the_demo_while_it_attaches", Tun::Everybodys, |stage| {
        // Asked before the board's time is over: else it would say that.
        let mut demo = start(&mut stage.demo("--board-fault silent:0"), true);
        demo.says("attach").signal(Signal::SIGINT);
        let ran = demo.end();
        assert_eq!(ran.code, Some(130), "{ran:#?}");
        ran.said(&["ended by SIGINT before it was done"]);
    });
}
