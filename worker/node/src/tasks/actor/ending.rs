//! How a workload ends: drained, stopped, told of, cleaned up and forgotten.

use super::*;

impl Actor {
    pub(super) async fn drain(&mut self) -> Step {
        let said = advertise::publish(&self.deps.gossip, self.records(EndpointState::Draining)).await;
        if !said.all {
            tracing::warn!(workload = %self.workload.id, missing = ?said.missing, "drained without everyone's answer");
        }
        self.advertised = Advertised::Draining;
        Ok(())
    }

    pub(super) async fn stop(&mut self) -> Step {
        if let Some(monitor) = &self.health {
            monitor.stop();
        }
        let Some(container) = &self.container else { return Ok(()) };
        // A user may want another time than the container was made with.
        let grace = self.workload.spec.stop_grace_period.map_or(container.stop_grace_ms, |grace| grace.0);
        let (id, signal, grace) = (container.id.clone(), container.stop_signal, Duration::from_millis(grace));
        let by_hand = self.workload.task().is_none();
        let stopped = tokio::select! {
            stopped = self.deps.runtime.stop(&id, signal, grace) => stopped,
            // A user who asks again may have less patience.
            Ok(()) = self.wish.changed(), if by_hand => return Ok(()),
        };
        match stopped {
            Ok(_) => {
                self.until(|state| matches!(state, ContainerState::Exited(_))).await;
                Ok(())
            }
            // Gone already.
            Err(RuntimeError::NoSuchContainer(_)) => {
                (self.container, self.state) = (None, None);
                Ok(())
            }
            Err(error) => Err(Failure::Again(format!("it cannot be stopped: {error}"))),
        }
    }

    pub(super) async fn finish(&mut self, state: TaskState) -> Step {
        self.clean_up().await;
        self.status.pid = 0;
        let end = self.state.as_ref().and_then(|s| match &*s.borrow() {
            ContainerState::Exited(end) => Some(end.clone()),
            _ => None,
        });
        self.status.exit_code = end.as_ref().map(|e| e.code);
        if state == TaskState::Failed {
            let finding = self.health.take().map(|m| m.finding.borrow().clone());
            let sick = finding.filter(|f| f.health == Health::Unhealthy);
            let by_hand = self.workload.task().is_none();
            let why = |end: &ExitStatus| match by_hand {
                // A user sees the exit code, and no verdict on it.
                true => end.error.clone(),
                false => reason(end, sick.as_ref()),
            };
            self.status.err = end.as_ref().map(why).unwrap_or_default();
        }
        self.health = None;
        let message = match state {
            TaskState::Complete => "finished",
            TaskState::Shutdown => "shutdown",
            _ => "started",
        };
        self.report(state, message);
        Ok(())
    }

    /// Peers forget the task, and its sandbox goes.
    pub(super) async fn clean_up(&mut self) {
        for record in self.records(EndpointState::Draining) {
            self.deps.gossip.withdraw(record.network, record.task).await;
        }
        self.advertised = Advertised::Nothing;
        if self.network.take().is_some() || self.maybe_network {
            self.deps.network.down(&self.workload.id).await;
            self.maybe_network = false;
        }
    }

    pub(super) async fn delete(&mut self) -> Step {
        if let Some(container) = &self.container {
            match self.deps.runtime.delete(&container.id, true).await {
                Ok(()) | Err(RuntimeError::NoSuchContainer(_)) => {}
                Err(error) => {
                    return Err(Failure::Again(format!("its container cannot be deleted: {error}")));
                }
            }
        }
        (self.container, self.state, self.found) = (None, None, false);
        self.health = None;
        Ok(())
    }
}

/// Why a task has failed, as swarmkit puts it.
fn reason(end: &ExitStatus, sick: Option<&HealthState>) -> String {
    let cause = match (sick, end.error.as_str()) {
        (Some(finding), _) if finding.output.is_empty() => "unhealthy container".to_owned(),
        (Some(finding), _) => format!("unhealthy container: {}", finding.output),
        (None, "") if end.oom => "out of memory".to_owned(),
        (None, error) => error.to_owned(),
    };
    match (end.code, cause.as_str()) {
        (code, "") => format!("task: non-zero exit ({code})"),
        // Polite to the last, or never seen to end.
        (0, cause) => format!("task: {cause}"),
        (_, cause) if sick.is_none() && !end.error.is_empty() => format!("task: {cause}"),
        (code, cause) => format!("task: non-zero exit ({code}): {cause}"),
    }
}
