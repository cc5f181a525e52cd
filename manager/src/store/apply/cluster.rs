//! The cluster object.

use certs::RootDigest;
use proto::model::{
    Cluster, ClusterSpec, NetworkKey, Node, NodeId, Revision, RootCa, RootRotation, UnlockKey,
};

use super::{Applying, in_sequence, refuse};
use crate::store::command::{Outcome, Rejected};

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

    pub(super) fn begin_root_rotation(&mut self, rotation: &RootRotation) -> Outcome {
        let cluster = self.cluster()?;
        if rotation.cert_pem == cluster.root_ca.cert_pem {
            return refuse("the swarm has this root CA already");
        }
        self.update(cluster, |c| c.root_ca.rotation = Some(Box::new(rotation.clone())));
        Ok(())
    }

    pub(super) fn move_to_root(&mut self, id: &NodeId, root: &str) -> Outcome {
        self.found::<Node>(id)?;
        let cluster = self.cluster()?;
        self.rotating_to(&cluster, root)?;
        self.update(cluster, |c| {
            if let Some(rotation) = &mut c.root_ca.rotation {
                rotation.moved.insert(id.clone());
            }
        });
        Ok(())
    }

    pub(super) fn finish_root_rotation(&mut self, root: &str, worker: &str, manager: &str) -> Outcome {
        let cluster = self.cluster()?;
        let next = self.rotating_to(&cluster, root)?.clone();
        let stays = self.state.nodes.values().map(|n| &n.id).find(|id| !next.moved.contains(*id));
        if let Some(node) = stays {
            return refuse(format!("node {node} has no certificate of the next root CA yet"));
        }
        self.update(cluster, |c| {
            c.root_ca = RootCa {
                cert_pem: next.cert_pem,
                key_pem: next.key_pem,
                worker_token: worker.to_owned(),
                manager_token: manager.to_owned(),
                rotation: None,
            };
        });
        Ok(())
    }

    /// The rotation under way, if it is to the root with this digest.
    fn rotating_to<'a>(&self, cluster: &'a Cluster, root: &str) -> Result<&'a RootRotation, Rejected> {
        let rotation = cluster.root_ca.rotation.as_deref();
        let digest = |r: &RootRotation| RootDigest::of_pem(&r.cert_pem).is_ok_and(|d| d.to_string() == root);
        rotation
            .filter(|r| digest(r))
            .ok_or_else(|| Rejected::State(format!("the swarm does not rotate to root CA {root}")))
    }

    pub(super) fn begin_epoch(&mut self, epoch: u64) -> Outcome {
        let cluster = self.cluster()?;
        if epoch <= cluster.epoch {
            return refuse(format!("the swarm is in epoch {} already", cluster.epoch));
        }
        self.update(cluster, |c| c.epoch = epoch);
        Ok(())
    }

    pub(super) fn set_unlock_key(&mut self, key: &UnlockKey) -> Outcome {
        let cluster = self.cluster()?;
        self.update(cluster, |c| c.unlock_key = key.clone());
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
