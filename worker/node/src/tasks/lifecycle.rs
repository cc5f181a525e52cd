//! What is to be done next for one task: a pure function of what is wanted and what is there. No step is remembered; after
//! a restart of the daemon the same function goes on from what it finds.

use network::workload::Workload;
use proto::model::TaskState;
use runtime::Health;

/// What the managers, or a user, want of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Make it ready, do not start it yet.
    Prepare,
    /// Run it.
    Run,
    /// Stop it, keep its output.
    Stop,
    /// It is no longer assigned: stop it, keep nothing.
    Forget,
}

impl Goal {
    /// Of a workload; none = it is wanted no longer.
    pub fn of(workload: Option<&Workload>) -> Self {
        match workload {
            None => Goal::Forget,
            Some(workload) if workload.desired < TaskState::Running => Goal::Prepare,
            Some(workload) if workload.desired == TaskState::Running => Goal::Run,
            Some(_) => Goal::Stop,
        }
    }

    const fn wants_it_up(self) -> bool {
        matches!(self, Goal::Prepare | Goal::Run)
    }
}

/// The container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerPhase {
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
pub enum Advertised {
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
    pub wish: Goal,
    /// The container.
    pub held: ContainerPhase,
    /// Whether its sandbox is up.
    pub network: bool,
    /// What peers know.
    pub advertised: Advertised,
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
            ContainerPhase::Created | ContainerPhase::Running => Action::Stop,
            ContainerPhase::Nothing | ContainerPhase::Exited { .. }
                if o.network || o.advertised != Advertised::Nothing =>
            {
                Action::CleanUp
            }
            ContainerPhase::Nothing | ContainerPhase::Exited { .. } if o.wish == Goal::Forget => {
                Action::Delete
            }
            ContainerPhase::Nothing | ContainerPhase::Exited { .. } => Action::Wait,
        };
    }
    match (o.wish.wants_it_up(), o.held) {
        (true, ContainerPhase::Nothing) => Action::Prepare,
        (true, ContainerPhase::Created | ContainerPhase::Running) if !o.network => Action::Adopt,
        (true, ContainerPhase::Created) => match o.wish {
            Goal::Run => Action::Start,
            _ if o.reported < TaskState::Ready => Action::Ready,
            _ => Action::Wait,
        },
        // A sick one goes as one that is not wanted: no new connections first.
        (true, ContainerPhase::Running) if o.health == Health::Unhealthy => match o.advertised {
            Advertised::Ready => Action::Drain,
            _ => Action::Stop,
        },
        (true, ContainerPhase::Running) if o.health == Health::Starting => Action::Wait,
        (true, ContainerPhase::Running) if o.advertised != Advertised::Ready => Action::Announce,
        (true, ContainerPhase::Running) => Action::Wait,
        // Nobody saw this end, so it is no result of the task: after a reboot the node runs it again, manager or not.
        (true, ContainerPhase::Exited { lost: true, .. }) if o.found => Action::Discard,
        (true, ContainerPhase::Exited { code: 0, lost: false }) if o.health != Health::Unhealthy => {
            Action::Finish(TaskState::Complete)
        }
        (true, ContainerPhase::Exited { .. }) => Action::Finish(TaskState::Failed),
        (false, ContainerPhase::Running) if o.advertised == Advertised::Ready => Action::Drain,
        (false, ContainerPhase::Running | ContainerPhase::Created) => Action::Stop,
        (false, ContainerPhase::Nothing | ContainerPhase::Exited { .. }) => {
            Action::Finish(TaskState::Shutdown)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn fresh(wish: Goal) -> Observed {
        Observed {
            wish,
            held: ContainerPhase::Nothing,
            network: false,
            advertised: Advertised::Nothing,
            health: Health::Healthy,
            reported: TaskState::Assigned,
            found: false,
        }
    }

    /// What the world looks like when an action has succeeded.
    fn done(o: Observed, action: Action) -> Observed {
        match action {
            Action::Prepare => Observed {
                held: ContainerPhase::Created,
                network: true,
                advertised: Advertised::Starting,
                reported: o.reported.max(TaskState::Ready),
                found: false,
                ..o
            },
            Action::Ready => Observed { reported: TaskState::Ready, ..o },
            Action::Adopt => Observed { network: true, ..o },
            Action::Start => {
                Observed { held: ContainerPhase::Running, reported: o.reported.max(TaskState::Starting), ..o }
            }
            Action::Announce => Observed { advertised: Advertised::Ready, reported: TaskState::Running, ..o },
            Action::Drain => Observed { advertised: Advertised::Draining, ..o },
            Action::Stop => Observed { held: ContainerPhase::Exited { code: 143, lost: false }, ..o },
            Action::Finish(state) => {
                Observed { network: false, advertised: Advertised::Nothing, reported: state, ..o }
            }
            Action::CleanUp => Observed { network: false, advertised: Advertised::Nothing, ..o },
            Action::Discard => Observed {
                held: ContainerPhase::Nothing,
                network: false,
                advertised: Advertised::Nothing,
                ..o
            },
            Action::Delete => Observed { held: ContainerPhase::Nothing, ..o },
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
        let (actions, running) = run(fresh(Goal::Run));
        assert_eq!(actions, [Prepare, Start, Announce]);
        let (actions, stopped) = run(Observed { wish: Goal::Stop, ..running });
        assert_eq!(actions, [Drain, Stop, Finish(TaskState::Shutdown)]);
        assert_eq!(run(Observed { wish: Goal::Forget, ..stopped }).0, [Delete]);
    }

    #[test]
    fn each_case_has_its_action() {
        use Action::*;
        let exited = |code| ContainerPhase::Exited { code, lost: false };
        let running = Observed {
            held: ContainerPhase::Running,
            network: true,
            advertised: Advertised::Ready,
            reported: TaskState::Running,
            ..fresh(Goal::Run)
        };
        let prepared = Observed {
            held: ContainerPhase::Created,
            network: true,
            advertised: Advertised::Starting,
            reported: TaskState::Ready,
            ..fresh(Goal::Prepare)
        };
        let over = Observed { held: exited(1), reported: TaskState::Failed, ..fresh(Goal::Run) };
        let lost =
            Observed { held: ContainerPhase::Exited { code: 0, lost: true }, network: false, ..running };
        let cases: &[(&str, Observed, &[Action])] = &[
            ("ready, but not to be started yet", fresh(Goal::Prepare), &[Prepare]),
            ("and then started", Observed { wish: Goal::Run, ..prepared }, &[Start, Announce]),
            (
                "never started, not wanted",
                Observed { wish: Goal::Stop, ..prepared },
                &[Stop, Finish(TaskState::Shutdown)],
            ),
            ("not wanted before anything was done", fresh(Goal::Stop), &[Finish(TaskState::Shutdown)]),
            ("forgotten at once", fresh(Goal::Forget), &[Finish(TaskState::Shutdown), Delete]),
            ("ended well", Observed { held: exited(0), ..running }, &[Finish(TaskState::Complete)]),
            ("ended badly", Observed { held: exited(3), ..running }, &[Finish(TaskState::Failed)]),
            (
                "ended while it was being stopped",
                Observed { wish: Goal::Stop, held: exited(0), ..running },
                &[Finish(TaskState::Shutdown)],
            ),
            (
                "found after a restart of the daemon",
                Observed { network: false, advertised: Advertised::Nothing, found: true, ..running },
                &[Adopt, Announce],
            ),
            (
                "found, created only",
                Observed {
                    held: ContainerPhase::Created,
                    network: false,
                    advertised: Advertised::Nothing,
                    found: true,
                    ..running
                },
                &[Adopt, Start, Announce],
            ),
            (
                "found, and stopped in the meantime",
                Observed {
                    wish: Goal::Stop,
                    network: false,
                    advertised: Advertised::Nothing,
                    found: true,
                    ..running
                },
                &[Stop, Finish(TaskState::Shutdown)],
            ),
            ("lost in a reboot", Observed { found: true, ..lost }, &[Discard, Prepare, Start, Announce]),
            ("shim lost while we watched", lost, &[Finish(TaskState::Failed)]),
            (
                "nothing left after a reboot",
                Observed {
                    held: ContainerPhase::Nothing,
                    network: false,
                    advertised: Advertised::Nothing,
                    ..running
                },
                &[Prepare, Start, Announce],
            ),
            ("not healthy yet", Observed { health: Health::Starting, ..fresh(Goal::Run) }, &[Prepare, Start]),
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
            ("over and forgotten", Observed { wish: Goal::Forget, ..over }, &[Delete]),
            ("over, sandbox left behind", Observed { network: true, ..over }, &[CleanUp]),
            (
                "forgotten while running",
                Observed { wish: Goal::Forget, ..running },
                &[Drain, Stop, Finish(TaskState::Shutdown), Delete],
            ),
        ];
        for (name, observed, expected) in cases {
            let (actions, _) = run(*observed);
            assert_eq!(actions, *expected, "{name}");
        }
    }

    fn any_observed() -> impl Strategy<Value = Observed> {
        let wish = prop_oneof![Just(Goal::Prepare), Just(Goal::Run), Just(Goal::Stop), Just(Goal::Forget)];
        let held = prop_oneof![
            Just(ContainerPhase::Nothing),
            Just(ContainerPhase::Created),
            Just(ContainerPhase::Running),
            (0..2, any::<bool>()).prop_map(|(code, lost)| ContainerPhase::Exited { code, lost }),
        ];
        let advertised = prop_oneof![
            Just(Advertised::Nothing),
            Just(Advertised::Starting),
            Just(Advertised::Ready),
            Just(Advertised::Draining)
        ];
        let reported = prop_oneof![
            Just(TaskState::Assigned),
            Just(TaskState::Ready),
            Just(TaskState::Running),
            Just(TaskState::Failed),
            Just(TaskState::Shutdown)
        ];
        let health = prop_oneof![Just(Health::Starting), Just(Health::Healthy), Just(Health::Unhealthy)];
        (wish, held, any::<bool>(), advertised, health, reported, any::<bool>()).prop_map(
            |(wish, held, network, advertised, health, reported, found)| Observed {
                wish,
                held,
                network,
                advertised,
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
                    prop_assert_eq!(o.wish, Goal::Forget);
                    break;
                }
            }
            if o.reported.is_terminal() {
                prop_assert!(!o.network && o.advertised == Advertised::Nothing);
                prop_assert!(!matches!(o.held, ContainerPhase::Created | ContainerPhase::Running));
            } else if o.wish == Goal::Run {
                prop_assert_eq!((o.held, o.network), (ContainerPhase::Running, true));
                prop_assert!(o.advertised == Advertised::Ready || o.health == Health::Starting);
            } else {
                prop_assert_eq!(o.wish, Goal::Prepare);
            }
            prop_assert!(o.wish != Goal::Forget || o.held == ContainerPhase::Nothing);
        }
    }
}
