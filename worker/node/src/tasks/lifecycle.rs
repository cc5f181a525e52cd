//! What is to be done next for one task: a pure function of what is wanted and what is there. No step is remembered; after
//! a restart of the daemon the same function goes on from what it finds.

use network::workload::Workload;
use proto::model::TaskState;
use runtime::Health;

/// What the managers, or a user, want of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Make it ready, do not start it yet.
    Prepare,
    /// Run it.
    Run,
    /// Stop it, keep its output.
    Stop,
    /// It is no longer assigned: stop it, keep nothing.
    Forget,
}

impl Wish {
    /// Of a workload; none = it is wanted no longer.
    pub fn of(workload: Option<&Workload>) -> Self {
        match workload {
            None => Wish::Forget,
            Some(workload) if workload.desired < TaskState::Running => Wish::Prepare,
            Some(workload) if workload.desired == TaskState::Running => Wish::Run,
            Some(_) => Wish::Stop,
        }
    }

    const fn wants_it_up(self) -> bool {
        matches!(self, Wish::Prepare | Wish::Run)
    }
}

/// The container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// None.
    Nothing,
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// Nobody saw it end: the machine, or its shim, went down with it.
        lost: bool,
    },
}

/// What peers have been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announced {
    /// Nothing, or that it is gone.
    Nothing,
    /// It has addresses.
    Starting,
    /// It takes connections.
    Ready,
    /// It takes no new ones; every live member has that in its kernel, or has had its time.
    Draining,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// What the managers want.
    pub wish: Wish,
    /// The container.
    pub held: Held,
    /// Whether its sandbox is up.
    pub network: bool,
    /// What peers know.
    pub announced: Announced,
    /// How the container is; one whose health is not checked is healthy.
    pub health: Health,
    /// The state last reported.
    pub reported: TaskState,
    /// The container was found when the daemon started, and nothing has been done with it yet.
    pub found: bool,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Image, sandbox, container.
    Prepare,
    /// Say that it could start.
    Ready,
    /// Take back the sandbox of a container that outlived the daemon.
    Adopt,
    /// Start the container.
    Start,
    /// Tell peers, wait until they have it, then say that it runs.
    Announce,
    /// Tell peers to send no new connections, wait until they have it.
    Drain,
    /// Signal, grace period, kill.
    Stop,
    /// Withdraw from peers, take the sandbox down, report the end.
    Finish(TaskState),
    /// Withdraw and take the sandbox down after an end reported earlier.
    CleanUp,
    /// Throw the remains of a lost container away, to make a new one.
    Discard,
    /// Delete the container with its output; the task is done with.
    Delete,
    /// Nothing.
    Wait,
}

/// The next thing to do.
pub fn next(o: &Observed) -> Action {
    if o.reported.is_terminal() {
        return match o.held {
            Held::Created | Held::Running => Action::Stop,
            Held::Nothing | Held::Exited { .. } if o.network || o.announced != Announced::Nothing => {
                Action::CleanUp
            }
            Held::Nothing | Held::Exited { .. } if o.wish == Wish::Forget => Action::Delete,
            Held::Nothing | Held::Exited { .. } => Action::Wait,
        };
    }
    match (o.wish.wants_it_up(), o.held) {
        (true, Held::Nothing) => Action::Prepare,
        (true, Held::Created | Held::Running) if !o.network => Action::Adopt,
        (true, Held::Created) => match o.wish {
            Wish::Run => Action::Start,
            _ if o.reported < TaskState::Ready => Action::Ready,
            _ => Action::Wait,
        },
        // A sick one goes as one that is not wanted: no new connections first.
        (true, Held::Running) if o.health == Health::Unhealthy => match o.announced {
            Announced::Ready => Action::Drain,
            _ => Action::Stop,
        },
        (true, Held::Running) if o.health == Health::Starting => Action::Wait,
        (true, Held::Running) if o.announced != Announced::Ready => Action::Announce,
        (true, Held::Running) => Action::Wait,
        // Nobody saw this end, so it is no result of the task: after a reboot the node runs it again, manager or not.
        (true, Held::Exited { lost: true, .. }) if o.found => Action::Discard,
        (true, Held::Exited { code: 0, lost: false }) if o.health != Health::Unhealthy => {
            Action::Finish(TaskState::Complete)
        }
        (true, Held::Exited { .. }) => Action::Finish(TaskState::Failed),
        (false, Held::Running) if o.announced == Announced::Ready => Action::Drain,
        (false, Held::Running | Held::Created) => Action::Stop,
        (false, Held::Nothing | Held::Exited { .. }) => Action::Finish(TaskState::Shutdown),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn fresh(wish: Wish) -> Observed {
        Observed {
            wish,
            held: Held::Nothing,
            network: false,
            announced: Announced::Nothing,
            health: Health::Healthy,
            reported: TaskState::Assigned,
            found: false,
        }
    }

    /// What the world looks like when an action has succeeded.
    fn done(o: Observed, action: Action) -> Observed {
        match action {
            Action::Prepare => Observed {
                held: Held::Created,
                network: true,
                announced: Announced::Starting,
                reported: o.reported.max(TaskState::Ready),
                found: false,
                ..o
            },
            Action::Ready => Observed { reported: TaskState::Ready, ..o },
            Action::Adopt => Observed { network: true, ..o },
            Action::Start => {
                Observed { held: Held::Running, reported: o.reported.max(TaskState::Starting), ..o }
            }
            Action::Announce => Observed { announced: Announced::Ready, reported: TaskState::Running, ..o },
            Action::Drain => Observed { announced: Announced::Draining, ..o },
            Action::Stop => Observed { held: Held::Exited { code: 143, lost: false }, ..o },
            Action::Finish(state) => {
                Observed { network: false, announced: Announced::Nothing, reported: state, ..o }
            }
            Action::CleanUp => Observed { network: false, announced: Announced::Nothing, ..o },
            Action::Discard => {
                Observed { held: Held::Nothing, network: false, announced: Announced::Nothing, ..o }
            }
            Action::Delete => Observed { held: Held::Nothing, ..o },
            Action::Wait => o,
        }
    }

    /// All actions until there is nothing to do.
    fn run(mut o: Observed) -> (Vec<Action>, Observed) {
        let mut actions = Vec::new();
        loop {
            let action = next(&o);
            if action == Action::Wait {
                return (actions, o);
            }
            o = done(o, action);
            actions.push(action);
            assert!(actions.len() < 20, "no end: {actions:?}");
            if action == Action::Delete {
                return (actions, o);
            }
        }
    }

    #[test]
    fn the_usual_life() {
        use Action::*;
        let (actions, running) = run(fresh(Wish::Run));
        assert_eq!(actions, [Prepare, Start, Announce]);
        let (actions, stopped) = run(Observed { wish: Wish::Stop, ..running });
        assert_eq!(actions, [Drain, Stop, Finish(TaskState::Shutdown)]);
        assert_eq!(run(Observed { wish: Wish::Forget, ..stopped }).0, [Delete]);
    }

    #[test]
    fn each_case_has_its_action() {
        use Action::*;
        let exited = |code| Held::Exited { code, lost: false };
        let running = Observed {
            held: Held::Running,
            network: true,
            announced: Announced::Ready,
            reported: TaskState::Running,
            ..fresh(Wish::Run)
        };
        let prepared = Observed {
            held: Held::Created,
            network: true,
            announced: Announced::Starting,
            reported: TaskState::Ready,
            ..fresh(Wish::Prepare)
        };
        let over = Observed { held: exited(1), reported: TaskState::Failed, ..fresh(Wish::Run) };
        let lost = Observed { held: Held::Exited { code: 0, lost: true }, network: false, ..running };
        let cases: &[(&str, Observed, &[Action])] = &[
            ("ready, but not to be started yet", fresh(Wish::Prepare), &[Prepare]),
            ("and then started", Observed { wish: Wish::Run, ..prepared }, &[Start, Announce]),
            (
                "never started, not wanted",
                Observed { wish: Wish::Stop, ..prepared },
                &[Stop, Finish(TaskState::Shutdown)],
            ),
            ("not wanted before anything was done", fresh(Wish::Stop), &[Finish(TaskState::Shutdown)]),
            ("forgotten at once", fresh(Wish::Forget), &[Finish(TaskState::Shutdown), Delete]),
            ("ended well", Observed { held: exited(0), ..running }, &[Finish(TaskState::Complete)]),
            ("ended badly", Observed { held: exited(3), ..running }, &[Finish(TaskState::Failed)]),
            (
                "ended while it was being stopped",
                Observed { wish: Wish::Stop, held: exited(0), ..running },
                &[Finish(TaskState::Shutdown)],
            ),
            (
                "found after a restart of the daemon",
                Observed { network: false, announced: Announced::Nothing, found: true, ..running },
                &[Adopt, Announce],
            ),
            (
                "found, created only",
                Observed {
                    held: Held::Created,
                    network: false,
                    announced: Announced::Nothing,
                    found: true,
                    ..running
                },
                &[Adopt, Start, Announce],
            ),
            (
                "found, and stopped in the meantime",
                Observed {
                    wish: Wish::Stop,
                    network: false,
                    announced: Announced::Nothing,
                    found: true,
                    ..running
                },
                &[Stop, Finish(TaskState::Shutdown)],
            ),
            ("lost in a reboot", Observed { found: true, ..lost }, &[Discard, Prepare, Start, Announce]),
            ("shim lost while we watched", lost, &[Finish(TaskState::Failed)]),
            (
                "nothing left after a reboot",
                Observed { held: Held::Nothing, network: false, announced: Announced::Nothing, ..running },
                &[Prepare, Start, Announce],
            ),
            ("not healthy yet", Observed { health: Health::Starting, ..fresh(Wish::Run) }, &[Prepare, Start]),
            (
                "sick",
                Observed { health: Health::Unhealthy, ..running },
                &[Drain, Stop, Finish(TaskState::Failed)],
            ),
            (
                "never healthy, and polite when stopped",
                Observed { health: Health::Unhealthy, held: exited(0), ..prepared },
                &[Finish(TaskState::Failed)],
            ),
            ("over, kept for its output", over, &[]),
            ("over and forgotten", Observed { wish: Wish::Forget, ..over }, &[Delete]),
            ("over, sandbox left behind", Observed { network: true, ..over }, &[CleanUp]),
            (
                "forgotten while running",
                Observed { wish: Wish::Forget, ..running },
                &[Drain, Stop, Finish(TaskState::Shutdown), Delete],
            ),
        ];
        for (name, observed, expected) in cases {
            let (actions, _) = run(*observed);
            assert_eq!(actions, *expected, "{name}");
        }
    }

    fn any_observed() -> impl Strategy<Value = Observed> {
        let wish = prop_oneof![Just(Wish::Prepare), Just(Wish::Run), Just(Wish::Stop), Just(Wish::Forget)];
        let held = prop_oneof![
            Just(Held::Nothing),
            Just(Held::Created),
            Just(Held::Running),
            (0..2, any::<bool>()).prop_map(|(code, lost)| Held::Exited { code, lost }),
        ];
        let announced = prop_oneof![
            Just(Announced::Nothing),
            Just(Announced::Starting),
            Just(Announced::Ready),
            Just(Announced::Draining)
        ];
        let reported = prop_oneof![
            Just(TaskState::Assigned),
            Just(TaskState::Ready),
            Just(TaskState::Running),
            Just(TaskState::Failed),
            Just(TaskState::Shutdown)
        ];
        let health = prop_oneof![Just(Health::Starting), Just(Health::Healthy), Just(Health::Unhealthy)];
        (wish, held, any::<bool>(), announced, health, reported, any::<bool>()).prop_map(
            |(wish, held, network, announced, health, reported, found)| Observed {
                wish,
                held,
                network,
                announced,
                health,
                reported,
                found,
            },
        )
    }

    proptest! {
        /// From wherever it starts, a task comes to rest where it is wanted, its state never falls, and nothing is leaked.
        #[test]
        fn every_state_comes_to_rest(start in any_observed()) {
            let mut o = start;
            for _ in 0..20 {
                let action = next(&o);
                if action == Action::Wait {
                    break;
                }
                let after = done(o, action);
                prop_assert!(after.reported >= o.reported, "{:?} by {:?}", o, action);
                o = after;
                if action == Action::Delete {
                    prop_assert_eq!(o.wish, Wish::Forget);
                    break;
                }
            }
            if o.reported.is_terminal() {
                prop_assert!(!o.network && o.announced == Announced::Nothing);
                prop_assert!(!matches!(o.held, Held::Created | Held::Running));
            } else if o.wish == Wish::Run {
                prop_assert_eq!((o.held, o.network), (Held::Running, true));
                prop_assert!(o.announced == Announced::Ready || o.health == Health::Starting);
            } else {
                prop_assert_eq!(o.wish, Wish::Prepare);
            }
            prop_assert!(o.wish != Wish::Forget || o.held == Held::Nothing);
        }
    }
}
