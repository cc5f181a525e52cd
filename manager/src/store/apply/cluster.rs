//! The cluster object.

use proto::model::{Cluster, ClusterSpec, NetworkKey, Revision};

use super::{Applying, in_sequence, refuse};
use crate::store::command::Outcome;

impl Applying<'_> {
    pub(super) fn init_cluster(&mut self, cluster: &Cluster) -> Outcome {
        if let Some(existing) = &self.state.cluster {
            return refuse(format!("cluster {} exists already", existing.id));
        }
        self.create(cluster.clone());
        Ok(())
    }

    pub(super) fn set_cluster_spec(&mut self, expect: Revision, spec: &ClusterSpec) -> Outcome {
        let cluster = self.cluster()?;
        in_sequence(|| "the cluster".into(), expect, cluster.meta.version)?;
        if spec.name != cluster.spec.name {
            return refuse("the cluster cannot be renamed");
        }
        self.update(cluster, |c| c.spec = spec.clone());
        Ok(())
    }

    pub(super) fn set_join_tokens(&mut self, worker: Option<&str>, manager: Option<&str>) -> Outcome {
        let cluster = self.cluster()?;
        self.update(cluster, |c| {
            if let Some(token) = worker {
                c.root_ca.worker_token = token.to_owned();
            }
            if let Some(token) = manager {
                c.root_ca.manager_token = token.to_owned();
            }
        });
        Ok(())
    }

    pub(super) fn set_network_keys(&mut self, keys: &[NetworkKey], clock: u64) -> Outcome {
        let cluster = self.cluster()?;
        // Two leaders in a row may both see a rotation due; the second one's must not undo the first one's.
        if clock <= cluster.key_clock {
            return refuse(format!("the key clock is at {} and cannot go to {clock}", cluster.key_clock));
        }
        self.update(cluster, |c| {
            c.network_keys = keys.to_vec();
            c.key_clock = clock;
        });
        Ok(())
    }
}
