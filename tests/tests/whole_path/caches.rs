//! A board whose cache is not coherent: with the board library's hooks nothing
//! is lost, and without any of them something is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use board::device::net::{Echo, NetBackend, Port};
use host::bus::sim::Profile;
use host::session::Layout;
use virtio_phys_tests::rig::frames::Sizes;
use virtio_phys_tests::rig::{CacheHook, EngineKind, Rig, RigOptions};

use super::load::{Streams, echo, streams};
use super::{LAYOUTS, PROFILES};

/// Who copies: the CPU through its cache, the engine past it, or both.
const ENGINES: [EngineKind; 3] = [EngineKind::Cpu, EngineKind::Dma, EngineKind::Mixed(512)];

const SIZES: Sizes = Sizes { large_one_in: 50, short_one_in: 3, ..Sizes::PLAIN };

fn options(seed: u64, profile: Profile, layout: Layout, engine: EngineKind) -> RigOptions {
    let options = RigOptions::instrument(seed, profile).layout(layout).mtu(9004).sizes(64, 32);
    options.non_coherent(engine)
}

#[test]
fn with_its_hooks_a_cache_that_is_not_coherent_loses_nothing() {
    for profile in PROFILES {
        for layout in LAYOUTS {
            for (seed, engine) in (0..).zip(ENGINES) {
                let options = options(seed, profile, layout, engine);
                let mut rig = Rig::echo(options);
                for _ in 0..2 {
                    rig.attach().unwrap();
                    echo(&mut rig, 1_000, SIZES);
                    rig.detach().unwrap();
                    rig.assert_clean();
                    rig.next_session().unwrap();
                }
                let mut rig = Rig::new(
                    options,
                    Port::new(Streams::new(seed, SIZES), Echo::verbatim().features()),
                );
                rig.attach().unwrap();
                streams(&mut rig, 1_000, SIZES);
                rig.detach().unwrap();
                rig.assert_clean();
            }
        }
    }
}

/// How many of 10 runs without `hook` go wrong.
fn failures(hook: CacheHook, layout: Layout, engine: EngineKind) -> usize {
    let run = |seed: &u64| {
        let mut rig = Rig::echo(options(*seed, Profile::Eager, layout, engine));
        rig.board.service.support().forgets = Some(hook);
        rig.attach().unwrap();
        catch_unwind(AssertUnwindSafe(|| echo(&mut rig, 500, SIZES))).is_err()
    };
    (0..10).filter(run).count()
}

/// Each hook is needed where it is called, and nowhere else: payload in host
/// memory is not cached, and an engine that passes the cache by needs none.
#[test]
fn without_any_of_the_hooks_frames_are_garbled() {
    use CacheHook::{AfterPost, BeforeFetch, BeforePost};
    let [cpu, dma, mixed] = ENGINES;
    for (hook, layout, engine) in [
        (BeforeFetch, Layout::Split, cpu),
        (BeforeFetch, Layout::BarOnly, cpu),
        (BeforeFetch, Layout::BarOnly, mixed),
        (AfterPost, Layout::BarOnly, cpu),
        (AfterPost, Layout::BarOnly, mixed),
        (BeforePost, Layout::BarOnly, mixed),
    ] {
        let failures = failures(hook, layout, engine);
        assert!(failures > 0, "{layout}, {engine:?}: nobody misses {hook:?}");
    }
    for (hook, layout, engine) in [
        (AfterPost, Layout::Split, cpu),
        (BeforePost, Layout::Split, mixed),
        (BeforeFetch, Layout::AllHost, mixed),
        (BeforeFetch, Layout::BarOnly, dma),
        (AfterPost, Layout::BarOnly, dma),
    ] {
        assert_eq!(failures(hook, layout, engine), 0, "{layout}, {engine:?}: {hook:?}");
    }
}
