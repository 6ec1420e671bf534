//! Explores every state of a small model, breadth first.
//!
//! Three answers that the models of this project need together, and no crate
//! gives all of (docs/dependencies.md, "Looked at and left out"): states are
//! kept whole and compared whole, so no hash collision hides one; the first bad
//! state comes with a shortest trace; and "from every state the work can be
//! finished" is checked on the whole graph, cycles included.

use std::fmt::Display;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// A system of states and steps, small enough to be explored whole.
pub trait Model {
    /// A whole state of the system.
    type State: Clone + Eq + Hash;
    /// What leads from a state to the next, for traces.
    type Step: Clone + Display;

    /// The states that the system may start in.
    fn initial(&self) -> Vec<Self::State>;

    /// Appends every step possible in `state` with the state that it leads to.
    fn steps(&self, state: &Self::State, out: &mut Vec<(Self::Step, Self::State)>);

    /// What is wrong with `state`, if anything is.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether all work is done in `state`.
    fn finished(&self, state: &Self::State) -> bool;

    /// Whether `step` is new work or a fault from outside. Such steps are
    /// explored, but the system must be able to finish without them.
    fn is_stimulus(&self, step: &Self::Step) -> bool {
        let _ = step;
        false
    }

    /// Whether every run without stimuli has to end in a finished state, not
    /// only can: then [`Report::longest`] is computed.
    fn must_finish(&self) -> bool {
        false
    }

    /// Bits for the interesting things that `step` to `state` shows. A test
    /// asserts that they were seen, so that a check cannot pass by exploring
    /// too little.
    fn witness(&self, step: &Self::Step, state: &Self::State) -> u32 {
        let _ = (step, state);
        0
    }
}

/// A path from an initial state: each step with the state that it led to.
pub type Trace<M> = Vec<(<M as Model>::Step, <M as Model>::State)>;

/// How an exploration ended.
pub enum Verdict<M: Model> {
    /// No state violates anything, and from each the work can be finished.
    Holds,
    /// A shortest trace to a violation.
    Violated {
        /// What [`Model::violation`] said.
        what: &'static str,
        /// The way there.
        trace: Trace<M>,
    },
    /// A shortest trace to a state from which no finished state is reached
    /// without a stimulus.
    Stuck {
        /// The way there.
        trace: Trace<M>,
    },
    /// Where the model must finish: a trace that ends in a state that it has
    /// been in before, without a stimulus or a finished state since.
    Circles {
        /// The way there, and once round.
        trace: Trace<M>,
    },
    /// The model has more states than the limit allowed.
    TooManyStates,
}

/// What an exploration found.
pub struct Report<M: Model> {
    /// Different states reached.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Steps from an initial state to the farthest state reached.
    pub depth: usize,
    /// All bits that [`Model::witness`] gave.
    pub witnesses: u32,
    /// Most steps without a stimulus before a finished state, from any state,
    /// where [`Model::must_finish`].
    pub longest: Option<usize>,
    /// How it ended.
    pub verdict: Verdict<M>,
}

/// Explores `model` until a violation, the end, or `limit` states.
#[must_use]
pub fn explore<M: Model>(model: &M, limit: usize) -> Report<M> {
    let mut found = Found::new();
    let mut edges = Vec::new();
    let mut witnesses = 0;
    let mut depth = 0;
    let mut violation = None;
    for state in model.initial() {
        violation = violation.or_else(|| Some((model.violation(&state)?, found.states.len())));
        found.insert(state, None);
    }
    // The states of the present depth end here.
    let mut layer_end = found.states.len();
    let mut next = 0;
    let mut steps = 0;
    let mut successors = Vec::new();
    while violation.is_none() && next < found.states.len() && found.states.len() < limit {
        if next == layer_end {
            depth += 1;
            layer_end = found.states.len();
        }
        model.steps(&found.states[next], &mut successors);
        for (step, state) in successors.drain(..) {
            steps += 1;
            witnesses |= model.witness(&step, &state);
            let bad = model.violation(&state);
            let (index, new) = found.insert(state, Some(next));
            if !model.is_stimulus(&step) {
                edges.push((narrow(index), narrow(next)));
            }
            if new && violation.is_none() {
                violation = bad.map(|what| (what, index));
            }
        }
        next += 1;
    }
    let verdict = if let Some((what, index)) = violation {
        Verdict::Violated { what, trace: trace_to(model, &found, index) }
    } else if found.states.len() >= limit {
        Verdict::TooManyStates
    } else if let Some(index) = first_stuck(model, &found.states, &edges) {
        Verdict::Stuck { trace: trace_to(model, &found, index) }
    } else {
        Verdict::Holds
    };
    let whole = matches!(verdict, Verdict::Holds) && model.must_finish();
    let (longest, verdict) = match whole.then(|| longest_run(model, &found.states, &edges)) {
        None => (None, verdict),
        Some(Ok(longest)) => (Some(longest), verdict),
        Some(Err(endless)) => {
            (None, Verdict::Circles { trace: circle(model, &mut found, &endless) })
        }
    };
    Report { states: found.states.len(), steps, depth, witnesses, longest, verdict }
}

/// The longest way along `edges` before a finished state, or the states from
/// which there is no longest.
fn longest_run<M: Model>(
    model: &M,
    states: &[M::State],
    edges: &[(u32, u32)],
) -> Result<usize, Vec<bool>> {
    let predecessors = Predecessors::new(states.len(), edges);
    let finished: Vec<bool> = states.iter().map(|state| model.finished(state)).collect();
    // Edges that leave an unfinished state, and are not yet counted.
    let mut open = vec![0_usize; states.len()];
    for &(_, from) in edges {
        open[from as usize] += usize::from(!finished[from as usize]);
    }
    let mut run = vec![0_usize; states.len()];
    let mut ready: Vec<usize> = (0..states.len()).filter(|&state| open[state] == 0).collect();
    let mut endless = vec![true; states.len()];
    while let Some(state) = ready.pop() {
        endless[state] = false;
        for &from in predecessors.of(state) {
            let from = from as usize;
            if !finished[from] {
                run[from] = run[from].max(run[state] + 1);
                open[from] -= 1;
                if open[from] == 0 {
                    ready.push(from);
                }
            }
        }
    }
    if endless.contains(&true) { Err(endless) } else { Ok(run.into_iter().max().unwrap_or(0)) }
}

/// The way to the first of the `endless` states and on among them, until one
/// comes again.
fn circle<M: Model>(model: &M, found: &mut Found<M::State>, endless: &[bool]) -> Trace<M> {
    let Some(mut at) = endless.iter().position(|&endless| endless) else { return Vec::new() };
    let mut trace = trace_to(model, found, at);
    let mut passed = Vec::new();
    let mut successors = Vec::new();
    while !passed.contains(&at) {
        passed.push(at);
        model.steps(&found.states[at], &mut successors);
        for (step, state) in successors.drain(..) {
            let next = found.insert(state.clone(), None).0;
            if endless[next] && !model.is_stimulus(&step) {
                trace.push((step, state));
                at = next;
                break;
            }
        }
    }
    trace
}

/// The predecessors of state i are `sources[starts[i]..starts[i + 1]]`.
struct Predecessors {
    starts: Vec<u32>,
    sources: Vec<u32>,
}

impl Predecessors {
    fn new(states: usize, edges: &[(u32, u32)]) -> Self {
        let mut starts = vec![0_u32; states + 1];
        for &(to, _) in edges {
            starts[to as usize + 1] += 1;
        }
        for i in 0..states {
            starts[i + 1] += starts[i];
        }
        let mut sources = vec![0_u32; edges.len()];
        let mut fill = starts.clone();
        for &(to, from) in edges {
            sources[fill[to as usize] as usize] = from;
            fill[to as usize] += 1;
        }
        Self { starts, sources }
    }

    fn of(&self, state: usize) -> &[u32] {
        &self.sources[self.starts[state] as usize..self.starts[state + 1] as usize]
    }
}

/// The first state from which `edges` lead to no finished state.
fn first_stuck<M: Model>(model: &M, states: &[M::State], edges: &[(u32, u32)]) -> Option<usize> {
    let predecessors = Predecessors::new(states.len(), edges);
    let mut can_finish: Vec<bool> = states.iter().map(|state| model.finished(state)).collect();
    let mut open: Vec<usize> = (0..states.len()).filter(|&i| can_finish[i]).collect();
    while let Some(state) = open.pop() {
        for &from in predecessors.of(state) {
            if !can_finish[from as usize] {
                can_finish[from as usize] = true;
                open.push(from as usize);
            }
        }
    }
    can_finish.iter().position(|&can| !can)
}

fn trace_to<M: Model>(model: &M, found: &Found<M::State>, index: usize) -> Trace<M> {
    let mut path = vec![index];
    let mut at = index;
    while let Some(parent) = found.parent(at) {
        path.push(parent);
        at = parent;
    }
    path.reverse();
    let mut successors = Vec::new();
    path.windows(2)
        .filter_map(|pair| {
            model.steps(&found.states[pair[0]], &mut successors);
            successors.drain(..).find(|(_, state)| *state == found.states[pair[1]])
        })
        .collect()
}

/// Every state found, in the order found, with the state it was found from.
struct Found<S> {
    states: Vec<S>,
    parents: Vec<u32>,
    /// Open addressing over indices into `states`; `EMPTY` where free.
    slots: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl<S: Eq + Hash> Found<S> {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), slots: vec![EMPTY; 1 << 16] }
    }

    fn parent(&self, index: usize) -> Option<usize> {
        Some(self.parents[index]).filter(|&parent| parent != EMPTY).map(|parent| parent as usize)
    }

    /// The index of `state`, and whether it is new.
    fn insert(&mut self, state: S, parent: Option<usize>) -> (usize, bool) {
        let slot = self.slot(&state);
        if self.slots[slot] != EMPTY {
            return (self.slots[slot] as usize, false);
        }
        let index = self.states.len();
        self.slots[slot] = narrow(index);
        self.states.push(state);
        self.parents.push(parent.map_or(EMPTY, narrow));
        if self.states.len() * 2 > self.slots.len() {
            self.slots = vec![EMPTY; self.slots.len() * 4];
            for i in 0..self.states.len() {
                let slot = self.slot(&self.states[i]);
                self.slots[slot] = narrow(i);
            }
        }
        (index, true)
    }

    /// Where `state` is, or the free slot where it belongs.
    fn slot(&self, state: &S) -> usize {
        let mask = self.slots.len() - 1;
        let hash = BuildHasherDefault::<Mix>::default().hash_one(state);
        let mut slot = usize::try_from(hash >> 24).unwrap_or(0) & mask;
        while self.slots[slot] != EMPTY && self.states[self.slots[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("the limit keeps models below 2^32 states")
}

/// A fast hash for short keys that nobody chooses against us.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two locks, two parties; each takes both, works, and puts both back.
    struct Locks {
        same_order: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    struct Held {
        owner: [Option<usize>; 2],
        taken: [usize; 2],
        done: [bool; 2],
    }

    impl Model for Locks {
        type State = Held;
        type Step = usize;

        fn initial(&self) -> Vec<Held> {
            vec![Held::default()]
        }

        fn steps(&self, state: &Held, out: &mut Vec<(usize, Held)>) {
            for who in 0..2 {
                let mut to = *state;
                if state.done[who] {
                    continue;
                }
                if state.taken[who] == 2 {
                    to.owner = to.owner.map(|owner| owner.filter(|&owner| owner != who));
                    to.done[who] = true;
                } else {
                    let lock = state.taken[who] ^ usize::from(!self.same_order && who == 1);
                    if state.owner[lock].is_some() {
                        continue;
                    }
                    to.owner[lock] = Some(who);
                    to.taken[who] += 1;
                }
                out.push((who, to));
            }
        }

        fn violation(&self, state: &Held) -> Option<&'static str> {
            (state.taken == [2, 2] && state.done == [false, false]).then_some("both hold both")
        }

        fn finished(&self, state: &Held) -> bool {
            state.done == [true, true]
        }

        fn must_finish(&self) -> bool {
            true
        }
    }

    #[test]
    fn finds_a_deadlock_with_a_shortest_trace() {
        let report = explore(&Locks { same_order: false }, 1000);
        let Verdict::Stuck { trace } = report.verdict else { panic!("not found") };
        assert_eq!(trace.iter().map(|&(who, _)| who).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn passes_where_there_is_none_and_counts_each_state_once() {
        let report = explore(&Locks { same_order: true }, 1000);
        assert!(matches!(report.verdict, Verdict::Holds));
        // One of the two goes first: start, end, and five states a party,
        // the fourth of them (one done, the other not begun) shared by none.
        assert_eq!((report.states, report.depth), (2 * 5 + 2, 6));
    }

    #[test]
    fn the_longest_way_is_the_longest() {
        assert_eq!(explore(&Locks { same_order: true }, 1000).longest, Some(6));
    }

    /// One or two steps at a time up to 9, and from 5 back to 1 if it may.
    struct Walk {
        back: bool,
    }

    impl Model for Walk {
        type State = u32;
        type Step = u32;

        fn initial(&self) -> Vec<u32> {
            vec![0]
        }

        fn steps(&self, state: &u32, out: &mut Vec<(u32, u32)>) {
            out.extend([1, 2].map(|add| (add, state + add)).into_iter().filter(|s| s.1 <= 9));
            if self.back && *state == 5 {
                out.push((0, 1));
            }
        }

        fn violation(&self, _: &u32) -> Option<&'static str> {
            None
        }

        fn finished(&self, state: &u32) -> bool {
            *state >= 8
        }

        fn must_finish(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_way_round_in_circles_is_no_bound() {
        assert_eq!(explore(&Walk { back: false }, 1000).longest, Some(8));
        let report = explore(&Walk { back: true }, 1000);
        let Verdict::Circles { trace } = report.verdict else { panic!("not found") };
        assert_eq!(trace.last().map(|&(_, state)| state), Some(1));
        assert_eq!(trace.iter().filter(|&&(_, state)| state == 1).count(), 2);
    }

    /// A counter to `end`, with a bad state and a limit to run into.
    struct Counter {
        end: u32,
        bad: u32,
    }

    impl Model for Counter {
        type State = u32;
        type Step = u32;

        fn initial(&self) -> Vec<u32> {
            vec![0]
        }

        fn steps(&self, state: &u32, out: &mut Vec<(u32, u32)>) {
            out.extend(
                [1, 2].map(|add| (add, state + add)).into_iter().filter(|s| s.1 <= self.end),
            );
        }

        fn violation(&self, state: &u32) -> Option<&'static str> {
            (*state == self.bad).then_some("bad")
        }

        fn finished(&self, state: &u32) -> bool {
            *state == self.end
        }

        fn is_stimulus(&self, step: &u32) -> bool {
            *step == 1
        }

        fn witness(&self, step: &u32, state: &u32) -> u32 {
            *step << (4 * u32::from(*state == 7))
        }
    }

    #[test]
    fn a_violation_comes_with_a_shortest_trace() {
        let report = explore(&Counter { end: 1_000_000, bad: 7 }, 1_000_000);
        let Verdict::Violated { what: "bad", trace } = report.verdict else { panic!("not found") };
        assert_eq!(trace.len(), 4);
        assert_eq!(trace.last().map(|&(_, state)| state), Some(7));
        assert_eq!(report.witnesses, 0x23, "steps of both kinds; the one to 7 was of two");
    }

    #[test]
    fn what_only_a_stimulus_finishes_is_stuck() {
        // Odd distances from the end need a step of one.
        let report = explore(&Counter { end: 200_000, bad: u32::MAX }, 1_000_000);
        let Verdict::Stuck { trace } = report.verdict else { panic!("not found") };
        assert_eq!(trace.last().map(|&(_, state)| state), Some(1));
        assert_eq!(report.states, 200_001);
    }

    #[test]
    fn more_states_than_the_limit_is_no_pass() {
        let report = explore(&Counter { end: 200_000, bad: u32::MAX }, 1000);
        assert!(matches!(report.verdict, Verdict::TooManyStates));
    }
}
