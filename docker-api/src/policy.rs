//! When tasks are started again, and how services are updated.

use proto::{
    error::ApiError,
    model::{self, FailureAction, Millis, RestartCondition, UpdateOrder},
};
use serde::{Deserialize, Serialize};

use crate::{json::empty, time};

/// When a task is started again. Times are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `none`, `on-failure`, `any`; empty = any.
    #[serde(skip_serializing_if = "empty")]
    pub condition: String,
    /// After this; absent = 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// So often within the window; absent or 0 = always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// What attempts are counted in; absent or 0 = all time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
}

/// How a service is updated. Times are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateConfig {
    /// So many at a time; 0 = all.
    pub parallelism: u64,
    /// Between two.
    #[serde(skip_serializing_if = "empty")]
    pub delay: i64,
    /// `pause`, `continue`, `rollback`; empty = pause.
    #[serde(skip_serializing_if = "empty")]
    pub failure_action: String,
    /// How long a new task is watched; 0 = 5 s.
    #[serde(skip_serializing_if = "empty")]
    pub monitor: i64,
    /// The part that may fail.
    pub max_failure_ratio: f64,
    /// `stop-first`, `start-first`; empty = stop-first.
    pub order: String,
}

impl TryFrom<RestartPolicy> for model::RestartPolicy {
    type Error = ApiError;

    fn try_from(policy: RestartPolicy) -> Result<Self, ApiError> {
        let usual = Self::default();
        let condition = match policy.condition.as_str() {
            "" | "any" => RestartCondition::Any,
            "none" => RestartCondition::None,
            "on-failure" => RestartCondition::OnFailure,
            other => {
                return Err(ApiError::invalid(format!("invalid RestartCondition: {other:?}"))
                    .help("none, on-failure or any"));
            }
        };
        let span = |name, nanos: Option<i64>, default| nanos.map_or(Ok(default), |n| time::span(name, n));
        Ok(Self {
            condition,
            delay: span("RestartPolicy.Delay", policy.delay, usual.delay)?,
            max_attempts: policy.max_attempts.unwrap_or(usual.max_attempts),
            window: span("RestartPolicy.Window", policy.window, usual.window)?,
        })
    }
}

impl From<&model::RestartPolicy> for RestartPolicy {
    fn from(policy: &model::RestartPolicy) -> Self {
        Self {
            condition: match policy.condition {
                RestartCondition::None => "none",
                RestartCondition::OnFailure => "on-failure",
                RestartCondition::Any => "any",
            }
            .into(),
            delay: Some(time::nanos(policy.delay)),
            max_attempts: Some(policy.max_attempts),
            window: (policy.window != Millis(0)).then(|| time::nanos(policy.window)),
        }
    }
}

impl TryFrom<UpdateConfig> for model::UpdateConfig {
    type Error = ApiError;

    fn try_from(config: UpdateConfig) -> Result<Self, ApiError> {
        let failure_action = match config.failure_action.as_str() {
            "" | "pause" => FailureAction::Pause,
            "continue" => FailureAction::Continue,
            "rollback" => FailureAction::Rollback,
            other => return Err(ApiError::invalid(format!("unrecognized update failure action {other}"))),
        };
        let order = match config.order.as_str() {
            "" | "stop-first" => UpdateOrder::StopFirst,
            "start-first" => UpdateOrder::StartFirst,
            other => return Err(ApiError::invalid(format!("unrecognized update order {other}"))),
        };
        let monitor = time::span("UpdateConfig.Monitor", config.monitor)?;
        Ok(Self {
            parallelism: config.parallelism,
            delay: time::span("UpdateConfig.Delay", config.delay)?,
            failure_action,
            monitor: if monitor == Millis(0) { Self::default().monitor } else { monitor },
            max_failure_ratio: config.max_failure_ratio,
            order,
        })
    }
}

impl From<&model::UpdateConfig> for UpdateConfig {
    fn from(config: &model::UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay: time::nanos(config.delay),
            failure_action: match config.failure_action {
                FailureAction::Pause => "pause",
                FailureAction::Continue => "continue",
                FailureAction::Rollback => "rollback",
            }
            .into(),
            monitor: time::nanos(config.monitor),
            max_failure_ratio: config.max_failure_ratio,
            order: match config.order {
                UpdateOrder::StopFirst => "stop-first",
                UpdateOrder::StartFirst => "start-first",
            }
            .into(),
        }
    }
}
