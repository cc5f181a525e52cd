//! The output of tasks, from their containers.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use proto::{model::TaskId, pb};

use crate::{
    agent::{TaskLogOptions, TaskLogs},
    runtime::{LogOptions, Runtime, Stream},
};

/// Reads the runtime's logs by task.
pub struct RuntimeLogs(pub Arc<dyn Runtime>);

#[async_trait]
impl TaskLogs for RuntimeLogs {
    async fn logs(
        &self,
        task: &TaskId,
        options: TaskLogOptions,
    ) -> Result<BoxStream<'static, Result<pb::LogLine, String>>, String> {
        let ours = |c: &crate::runtime::Container| c.record.task.as_ref().is_some_and(|t| t.task == *task);
        let container = self.0.list().into_iter().find(ours);
        let container = container.ok_or_else(|| format!("task {task} has no container on this node"))?;
        let options = LogOptions {
            follow: options.follow,
            tail: options.tail,
            since: options.since.saturating_mul(1_000_000),
        };
        let lines = self.0.logs(&container.record.id, options).await.map_err(|e| e.to_string())?;
        let line = |line: crate::runtime::Result<crate::runtime::LogLine>| {
            let line = line.map_err(|e| e.to_string())?;
            Ok(pb::LogLine { at_nanos: line.at, stderr: line.stream == Stream::Stderr, data: line.data })
        };
        Ok(lines.map(line).boxed())
    }
}
