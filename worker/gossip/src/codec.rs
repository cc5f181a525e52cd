//! chitchat's wire form, by its public API only.
//!
//! chitchat 0.13 keeps the serialisation of its messages to itself; its `UdpSocket` is public. So we let that socket write to,
//! and read from, a loopback socket of ours, and take the bytes from there. Any local process can send to a loopback port,
//! hence: our socket is connected to chitchat's and checks the source of what it reads, and of what chitchat's socket reads
//! only datagrams from our own port count.

use std::{net::SocketAddr, time::Duration};

use chitchat::{
    ChitchatEnvelope,
    transport::{Socket as _, UdpSocket as ChitchatSocket},
};
use tokio::{net::UdpSocket, time::timeout};

/// Two sockets of one process: far more than a loopback hop takes, short enough not to stall a gossip round.
const HOP: Duration = Duration::from_millis(500);

/// Why a hop failed. chitchat's socket has errors without a type.
type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// Turns chitchat's messages into bytes and back. One at a time.
#[derive(Default)]
pub(super) struct Codec {
    pair: Option<Pair>,
}

struct Pair {
    chitchat: ChitchatSocket,
    chitchat_addr: SocketAddr,
    ours: UdpSocket,
    our_addr: SocketAddr,
    buffer: Vec<u8>,
}

impl Pair {
    async fn open() -> Result<Self, CodecError> {
        let chitchat = ChitchatSocket::open(([127, 0, 0, 1], 0).into()).await?;
        let chitchat_addr = chitchat.local_addr()?;
        let ours = UdpSocket::bind(("127.0.0.1", 0)).await?;
        ours.connect(chitchat_addr).await?;
        let our_addr = ours.local_addr()?;
        Ok(Self { chitchat, chitchat_addr, ours, our_addr, buffer: vec![0; 65_536] })
    }

    async fn encode(&mut self, envelope: ChitchatEnvelope) -> Result<Vec<u8>, CodecError> {
        self.chitchat.send(self.our_addr, envelope).await?;
        loop {
            let (n, from) = self.ours.recv_from(&mut self.buffer).await?;
            // Something may have arrived between bind and connect.
            if from == self.chitchat_addr {
                return Ok(self.buffer[..n].to_vec());
            }
        }
    }

    async fn decode(&mut self, bytes: &[u8]) -> Result<ChitchatEnvelope, CodecError> {
        self.ours.send(bytes).await?;
        loop {
            let received = self.chitchat.recv().await?;
            if received.from_addr == self.our_addr {
                return Ok(received.envelope);
            }
        }
    }
}

impl Codec {
    /// The bytes of a message.
    pub(super) async fn encode(&mut self, envelope: ChitchatEnvelope) -> Option<Vec<u8>> {
        // The pair is taken out while it works: if it fails, takes too long or this call is cancelled, an answer may still
        // be under way in it, and the next one must not be mistaken for it.
        let mut pair = self.take().await?;
        let bytes = timeout(HOP, pair.encode(envelope)).await.ok()?.map_err(report).ok()?;
        self.pair = Some(pair);
        Some(bytes)
    }

    /// The message in `bytes`; none when they are not one.
    pub(super) async fn decode(&mut self, bytes: &[u8]) -> Option<ChitchatEnvelope> {
        let mut pair = self.take().await?;
        let envelope = timeout(HOP, pair.decode(bytes)).await.ok()?.map_err(report).ok()?;
        self.pair = Some(pair);
        Some(envelope)
    }

    async fn take(&mut self) -> Option<Pair> {
        match self.pair.take() {
            Some(pair) => Some(pair),
            None => Pair::open().await.map_err(report).ok(),
        }
    }
}

/// Has chitchat read bytes. What it makes of them is followed by a message that it knows: so nobody waits for what it drops.
#[cfg(any(test, fuzzing))]
pub(super) fn decode_one(bytes: &[u8]) {
    use std::cell::RefCell;

    use futures::FutureExt as _;

    thread_local! {
        static STATE: RefCell<Option<(tokio::runtime::Runtime, Pair, Vec<u8>)>> = const { RefCell::new(None) };
    }
    // More does not fit a datagram.
    if bytes.len() > 65_000 {
        return;
    }
    STATE.with_borrow_mut(|state| {
        if state.is_none() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            *state = runtime.ok().and_then(|runtime| {
                let known = ChitchatEnvelope {
                    version: chitchat::ProtocolVersion::V1,
                    message: chitchat::ChitchatMessage::BadCluster,
                };
                let (pair, known) = runtime.block_on(async {
                    let mut pair = Pair::open().await.ok()?;
                    let known = pair.encode(known).await.ok()?;
                    Some((pair, known))
                })?;
                Some((runtime, pair, known))
            });
        }
        let Some((runtime, pair, known)) = state else { return };
        runtime.block_on(async {
            let _ = pair.ours.send(bytes).await;
            let _ = pair.ours.send(known).await;
            while let Ok(received) = pair.chitchat.recv().await {
                if format!("{:?}", received.envelope).contains("BadCluster") {
                    break;
                }
            }
            // If it was the bytes that said so, the known message is still there.
            while pair.chitchat.recv().now_or_never().is_some() {}
        });
    });
}

fn report(error: CodecError) {
    tracing::warn!(%error, "the loopback hop of the gossip codec failed; is the loopback interface up?");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    fn envelope() -> ChitchatEnvelope {
        ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster }
    }

    #[tokio::test]
    async fn a_message_survives_both_ways() {
        let mut codec = Codec::default();
        let bytes = codec.encode(envelope()).await.unwrap();
        assert_eq!(codec.decode(&bytes).await.unwrap(), envelope());
        assert!(codec.decode(b"not a message").await.is_none(), "garbage is not an answer");
        assert_eq!(codec.decode(&bytes).await.unwrap(), envelope(), "and does not spoil the next one");
    }

    #[tokio::test]
    async fn only_our_own_loopback_port_is_listened_to() {
        let mut codec = Codec { pair: Some(Pair::open().await.unwrap()) };
        let (theirs, ours) = {
            let pair = codec.pair.as_ref().unwrap();
            (pair.chitchat_addr, pair.our_addr)
        };
        let bytes = codec.encode(envelope()).await.unwrap();
        // Another local process injects a valid message of its own into both sockets, before ours.
        let intruder = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let mut foreign = Pair::open().await.unwrap();
        let syn = forged(&mut foreign).await;
        for _ in 0..3 {
            intruder.send_to(&syn, theirs).await.unwrap();
            // A connected socket refuses this one; the sender may even be told.
            let _ = intruder.send_to(&syn, ours).await;
        }
        assert_eq!(
            codec.decode(&bytes).await.unwrap(),
            envelope(),
            "the intruder's message was taken for ours"
        );
        assert_eq!(
            codec.encode(envelope()).await.unwrap(),
            bytes,
            "the intruder's bytes were taken for chitchat's"
        );
    }

    #[test]
    fn what_members_send_is_read_or_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seeds = runtime.block_on(async {
            let mut pair = Pair::open().await.unwrap();
            [pair.encode(envelope()).await.unwrap(), forged(&mut pair).await]
        });
        smoke::smoke(seeds, 2000, decode_one);
    }

    /// A valid chitchat message that differs from [`envelope`].
    async fn forged(pair: &mut Pair) -> Vec<u8> {
        let other = ChitchatEnvelope { version: ProtocolVersion::V0, message: ChitchatMessage::BadCluster };
        pair.encode(other).await.unwrap()
    }
}
