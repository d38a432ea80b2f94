//! The check against a model of an agent that loses answers, forgets, and carries registrations out late.

use proptest::prelude::*;

use super::tests::{Play, forgotten, millis, timed_out, unavailable};
use super::*;

/// An agent as far as it matters here: what it holds, and registrations that arrive late.
#[derive(Debug, Default)]
struct Model {
    holds: bool,
    late: bool,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    /// Carried out, and the answer is lost.
    Lost,
    /// Not carried out, and no answer.
    Vanished,
    /// A registration that is carried out later.
    Late,
    Error,
}

impl Model {
    fn ask(&mut self, action: Action, fate: Fate) -> Outcome {
        if matches!(fate, Fate::Error) {
            return Err(unavailable());
        }
        if matches!(fate, Fate::Vanished) {
            return Err(timed_out());
        }
        let outcome = match action {
            Action::Register(_) | Action::RegisterDrained if matches!(fate, Fate::Late) => {
                self.late = true;
                return Err(timed_out());
            }
            Action::Register(_) | Action::RegisterDrained => {
                self.holds = true;
                Ok(Seen::Ours)
            }
            Action::Deregister => {
                self.holds = false;
                Ok(Seen::Ours)
            }
            Action::Beat(_) | Action::Look | Action::Maintain if self.holds => Ok(Seen::Ours),
            Action::Beat(_) | Action::Look | Action::Maintain => Err(forgotten()),
        };
        if matches!(fate, Fate::Done) {
            outcome
        } else {
            Err(timed_out())
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_agent_does_the_end_leaves_nothing_and_the_pace_is_kept(
        fates in proptest::collection::vec(prop_oneof![
            6 => Just(Fate::Done), 1 => Just(Fate::Lost), 1 => Just(Fate::Vanished), 1 => Just(Fate::Late), 1 => Just(Fate::Error),
        ], 0..60),
        forget in proptest::option::of(0usize..60),
        end_at in 0usize..60,
        drain_at in proptest::option::of(0usize..60),
        late_comes in 0u64..20,
        random in any::<u64>(),
    ) {
        let mut play = Play::new();
        let mut agent = Model::default();
        let mut random = fastrand::Rng::with_seed(random);
        let mut reports = 0;
        let mut late_at = None;
        let mut busy = 0;
        let mut steps = 0;
        let mut ended = false;
        loop {
            if !ended && steps >= end_at {
                play.end(5);
                ended = true;
            }
            if drain_at == Some(steps) {
                play.check.drain();
            }
            if forget == Some(steps) {
                agent.holds = false;
            }
            if late_at.is_some_and(|at| play.now >= at) {
                (agent.holds, agent.late, late_at) = (true, false, None);
            }
            match play.check.step(play.now, true) {
                Step::Sleep(until) => {
                    prop_assert!(until > play.now);
                    let until = late_at.map_or(until, |at: Instant| until.min(at.max(play.now)));
                    play.now = until;
                    busy = 0;
                }
                Step::Do { action, .. } => {
                    // The agent is well again once the script is over.
                    let fate = fates.get(steps).copied().unwrap_or(Fate::Done);
                    steps += 1;
                    busy += 1;
                    prop_assert!(busy < 8, "{action:?} without a pause");
                    prop_assert!(!(ended && (action.is_registration() || matches!(action, Action::Beat(_) | Action::Maintain))));
                    let outcome = agent.ask(action, fate);
                    if agent.late && late_at.is_none() {
                        late_at = Some(play.now + millis(late_comes * 1000));
                    }
                    play.check.answered(play.now, random.u64(..), action, outcome);
                }
                Step::Report(_) => reports += 1,
                Step::Finished => break,
            }
            prop_assert!(steps < 2000);
        }
        prop_assert_eq!(reports, 1);
        // A registration that came later than we look for it is left to its own time to live.
        let missed = agent.late || late_at.is_some();
        prop_assert!(!agent.holds || missed, "left behind");
    }
}
