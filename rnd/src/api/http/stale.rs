//! Answers that were given without a leader say so, in a header that Docker's clients do not read.

use std::cell::Cell;

use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use manager::api::forward::STALE;

tokio::task_local! {
    /// For how many milliseconds no leader had been heard of, where the managers had none when they were asked.
    static SILENCE: Cell<Option<u64>>;
}

/// Remembers what the managers' answer says of that, for the request that is being answered.
pub fn note(headers: &HeaderMap) {
    let silence = headers.get(STALE).and_then(|value| value.to_str().ok()?.parse().ok());
    if silence.is_some() {
        // Outside of such a request nobody asks.
        let _ = SILENCE.try_with(|noted| noted.set(silence));
    }
}

/// Answers a request, with the header where it is due.
pub async fn marked<E>(answer: impl Future<Output = Result<Response, E>>) -> Result<Response, E> {
    SILENCE
        .scope(Cell::new(None), async {
            let mut response = answer.await?;
            if let Some(silence) = SILENCE.with(Cell::get) {
                response.headers_mut().insert(STALE, HeaderValue::from(silence));
            }
            Ok(response)
        })
        .await
}
