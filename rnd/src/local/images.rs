//! Images.

use proto::{error::ApiError, pb};
use tokio::sync::mpsc;
use tonic::{Response, Streaming};
use worker::runtime::{Image, ImportOptions};

use super::{Local, Reply, refused};

/// Chunks of an archive on their way to the disk.
const AHEAD: usize = 8;

pub(super) fn to_pb(image: Image) -> pb::Image {
    pb::Image {
        id: image.id,
        tags: image.tags,
        created_at: image.created_at,
        size: image.size,
        config_json: image.config_json,
        layers: image.layers.iter().map(|l| l.display().to_string()).collect(),
    }
}

impl Local {
    pub(super) async fn import_image(
        &self,
        mut stream: Streaming<pb::ImportRequest>,
    ) -> Reply<pb::ImportReply> {
        let Some(first) = stream.message().await? else {
            return Err(ApiError::invalid("nothing to import").into());
        };
        let options =
            ImportOptions { reference: first.reference, message: first.message, changes: first.changes };
        let (chunks, archive) = mpsc::channel(AHEAD);
        let feed = async move {
            if !first.data.is_empty() && chunks.send(Ok(first.data.into())).await.is_err() {
                return;
            }
            loop {
                let next = match stream.message().await {
                    Ok(Some(message)) => Ok(message.data.into()),
                    Ok(None) => return,
                    // Cut off: what came so far is not the archive.
                    Err(status) => Err(std::io::Error::other(status.message().to_owned())),
                };
                let last = next.is_err();
                if chunks.send(next).await.is_err() || last {
                    return;
                }
            }
        };
        let (id, ()) = tokio::join!(self.daemon.runtime.import(archive, options), feed);
        Ok(Response::new(pb::ImportReply { id: id.map_err(refused)? }))
    }
}
