//! Requests of those who have no certificate in force: joiners, and whoever else can reach the port. Few at a time from one address and
//! few in all, each whole before anybody is troubled with it: what is passed on to the leader shares a connection with the members'.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certs::{
    ConnInfo,
    transport::admission::{ConnectionSlot, ConnectionSlots, Rate, Source},
};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use proto::error::ApiError;
use tokio::time::{Instant, timeout};
use tonic::body::Body;

/// Requests under way at once: in total, and for each source.
const UNDER_WAY: (usize, usize) = (64, 8);
/// Requests of a source at once, and each second after that. A joiner needs two.
const RATE: (u32, u32) = (256, 64);
/// The largest request: a token and a signing request are less than 1 KiB.
const MAX_BODY: usize = 64 << 10;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// How much callers without a certificate may ask for at a time. Clones share one count.
#[derive(Clone)]
pub(super) struct UnauthenticatedLimits {
    slots: ConnectionSlots,
    rate: Arc<Mutex<Rate>>,
}

impl Default for UnauthenticatedLimits {
    fn default() -> Self {
        let rate = Arc::new(Mutex::new(Rate::new(RATE.0, RATE.1)));
        Self { slots: ConnectionSlots::new(UNDER_WAY.0, UNDER_WAY.1), rate }
    }
}

impl UnauthenticatedLimits {
    /// A place for a request on this connection. Who exceeds the rate is hung up on: refusing costs something too.
    pub(super) fn admit(&self, conn: &ConnInfo) -> Result<ConnectionSlot, ApiError> {
        let source = Source::of(conn.remote.ip());
        let allowed = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.allows(source, Instant::now())
        };
        let slot = if allowed {
            self.slots.try_take(source)
        } else {
            conn.hang_up.now();
            None
        };
        slot.ok_or_else(|| {
            ApiError::exhausted(format!(
                "too many requests without a certificate, from {} or in all",
                conn.remote.ip()
            ))
            .help("try again in a few seconds")
        })
    }
}

/// The request, once all of it is here.
pub(super) async fn whole(request: Request<Body>) -> Result<Request<Body>, ApiError> {
    let (parts, body) = request.into_parts();
    let body = match timeout(ARRIVAL, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(ApiError::invalid(format!("the request cannot be read: {error}"))),
        Err(_) => {
            return Err(ApiError::timeout(format!(
                "the request did not arrive within {} s",
                ARRIVAL.as_secs()
            )));
        }
    };
    Ok(Request::from_parts(parts, Body::new(Full::new(body))))
}
