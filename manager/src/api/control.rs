//! The `Control` RPCs: from the wire and back; what happens in between is in the module of each object.

use proto::{
    error::ApiError,
    model::{Config, FileSpec, NetworkSpec, NodeSpec, Revision, Secret, ServiceSpec},
    pb::{self, control_server::Control},
};
use tonic::{Request, Response, Status};

use super::{Api, redact};
use crate::dispatcher::faults;

type Reply<T> = Result<Response<T>, Status>;

/// The part of a request that must be there.
fn given<T>(what: &str, part: Option<T>) -> Result<T, ApiError> {
    part.ok_or_else(|| ApiError::invalid(format!("the request has no {what}")))
}

#[tonic::async_trait]
impl Control for Api {
    async fn get_cluster(&self, _: Request<pb::GetClusterRequest>) -> Reply<pb::Cluster> {
        Ok(Response::new(self.cluster().await?.into()))
    }

    async fn update_cluster(&self, request: Request<pb::UpdateClusterRequest>) -> Reply<pb::Cluster> {
        let request = request.into_inner();
        Ok(Response::new(self.set_cluster(request).await?.into()))
    }

    async fn get_unlock_key(&self, _: Request<pb::GetUnlockKeyRequest>) -> Reply<pb::GetUnlockKeyReply> {
        Ok(Response::new(pb::GetUnlockKeyReply { key: self.unlock_key().await?.0 }))
    }

    async fn list_nodes(&self, _: Request<pb::ListNodesRequest>) -> Reply<pb::ListNodesReply> {
        let nodes = self.nodes().await?.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListNodesReply { nodes }))
    }

    async fn get_node(&self, request: Request<pb::GetRequest>) -> Reply<pb::Node> {
        Ok(Response::new(self.node(&request.get_ref().key).await?.into()))
    }

    async fn update_node(&self, request: Request<pb::UpdateNodeRequest>) -> Reply<pb::Node> {
        let request = request.into_inner();
        let spec = NodeSpec::try_from(given("spec", request.spec)?)?;
        Ok(Response::new(self.set_node(&request.key, Revision(request.version), spec).await?.into()))
    }

    async fn remove_node(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        let request = request.into_inner();
        Ok(Response::new(self.forget_node(&request.key, request.force).await?))
    }

    async fn create_network(&self, request: Request<pb::CreateNetworkRequest>) -> Reply<pb::Network> {
        let spec = NetworkSpec::try_from(given("spec", request.into_inner().spec)?)?;
        Ok(Response::new(self.new_network(spec).await?.into()))
    }

    async fn list_networks(&self, _: Request<pb::ListNetworksRequest>) -> Reply<pb::ListNetworksReply> {
        let state = self.fresh().await?;
        let networks = state.networks.values().map(|n| pb::Network::from(&**n)).collect();
        Ok(Response::new(pb::ListNetworksReply { networks }))
    }

    async fn get_network(&self, request: Request<pb::GetRequest>) -> Reply<pb::Network> {
        let network = self.fresh().await?.find_network(&request.get_ref().key)?;
        Ok(Response::new(pb::Network::from(&*network)))
    }

    async fn remove_network(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        Ok(Response::new(self.drop_network(&request.get_ref().key).await?))
    }

    async fn create_service(&self, request: Request<pb::CreateServiceRequest>) -> Reply<pb::Service> {
        let spec = ServiceSpec::try_from(given("spec", request.into_inner().spec)?)?;
        Ok(Response::new(redact::service(&self.new_service(spec).await?)))
    }

    async fn list_services(&self, _: Request<pb::ListServicesRequest>) -> Reply<pb::ListServicesReply> {
        let state = self.fresh().await?;
        let services = state.services.values().map(|s| super::services::entry(&state, s)).collect();
        Ok(Response::new(pb::ListServicesReply { services }))
    }

    async fn get_service(&self, request: Request<pb::GetRequest>) -> Reply<pb::Service> {
        let state = self.fresh().await?;
        let service = state.find_service(&request.get_ref().key)?;
        Ok(Response::new(redact::service(&faults::shown(&state, &service))))
    }

    async fn update_service(&self, request: Request<pb::UpdateServiceRequest>) -> Reply<pb::Service> {
        let request = request.into_inner();
        let version = Revision(request.version);
        if request.rollback {
            let service = self.roll_service_back(&request.key, version).await?;
            return Ok(Response::new(redact::service(&service)));
        }
        let spec = ServiceSpec::try_from(given("spec", request.spec)?)?;
        let service = self.set_service(&request.key, version, spec).await?;
        Ok(Response::new(redact::service(&service)))
    }

    async fn remove_service(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        Ok(Response::new(self.drop_service(&request.get_ref().key).await?))
    }

    async fn list_tasks(&self, request: Request<pb::ListTasksRequest>) -> Reply<pb::ListTasksReply> {
        let state = self.fresh().await?;
        let tasks = super::tasks::list(&state, request.get_ref())?;
        Ok(Response::new(pb::ListTasksReply { tasks: tasks.iter().map(|t| redact::task(t)).collect() }))
    }

    async fn get_task(&self, request: Request<pb::GetRequest>) -> Reply<pb::Task> {
        let task = self.fresh().await?.find_task(&request.get_ref().key)?;
        Ok(Response::new(redact::task(&task)))
    }

    async fn create_secret(&self, request: Request<pb::CreateFileRequest>) -> Reply<pb::Secret> {
        let spec = FileSpec::try_from(given("spec", request.into_inner().spec)?)?;
        let secret = self.new_file::<Secret>(spec).await?;
        Ok(Response::new(redact::secret(&secret)))
    }

    async fn list_secrets(&self, request: Request<pb::ListFilesRequest>) -> Reply<pb::ListSecretsReply> {
        let secrets = self.files::<Secret>(request.get_ref()).await?;
        Ok(Response::new(pb::ListSecretsReply {
            secrets: secrets.iter().map(|s| redact::secret(s)).collect(),
        }))
    }

    async fn get_secret(&self, request: Request<pb::GetRequest>) -> Reply<pb::Secret> {
        let secret = self.fresh().await?.find::<Secret>(&request.get_ref().key)?;
        Ok(Response::new(redact::secret(&secret)))
    }

    async fn update_secret(&self, request: Request<pb::UpdateFileRequest>) -> Reply<pb::Secret> {
        let request = request.into_inner();
        let spec = FileSpec::try_from(given("spec", request.spec)?)?;
        let secret = self.label_file::<Secret>(&request.key, Revision(request.version), spec).await?;
        Ok(Response::new(redact::secret(&secret)))
    }

    async fn remove_secret(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        Ok(Response::new(self.drop_file::<Secret>(&request.get_ref().key).await?))
    }

    async fn create_config(&self, request: Request<pb::CreateFileRequest>) -> Reply<pb::Config> {
        let spec = FileSpec::try_from(given("spec", request.into_inner().spec)?)?;
        let config = self.new_file::<Config>(spec).await?;
        Ok(Response::new(pb::Config::from((*config).clone())))
    }

    async fn list_configs(&self, request: Request<pb::ListFilesRequest>) -> Reply<pb::ListConfigsReply> {
        let configs = self.files::<Config>(request.get_ref()).await?;
        Ok(Response::new(pb::ListConfigsReply {
            configs: configs.iter().map(|c| pb::Config::from((**c).clone())).collect(),
        }))
    }

    async fn get_config(&self, request: Request<pb::GetRequest>) -> Reply<pb::Config> {
        let config = self.fresh().await?.find::<Config>(&request.get_ref().key)?;
        Ok(Response::new(pb::Config::from((*config).clone())))
    }

    async fn update_config(&self, request: Request<pb::UpdateFileRequest>) -> Reply<pb::Config> {
        let request = request.into_inner();
        let spec = FileSpec::try_from(given("spec", request.spec)?)?;
        let config = self.label_file::<Config>(&request.key, Revision(request.version), spec).await?;
        Ok(Response::new(pb::Config::from((*config).clone())))
    }

    async fn remove_config(&self, request: Request<pb::RemoveRequest>) -> Reply<pb::RemoveReply> {
        Ok(Response::new(self.drop_file::<Config>(&request.get_ref().key).await?))
    }

    async fn convergence(&self, request: Request<pb::ConvergenceRequest>) -> Reply<pb::ConvergenceReply> {
        Ok(Response::new(self.converged_up_to(Revision(request.get_ref().revision)).await?))
    }
}
