//! Sealed datagrams, without any socket: what goes into one, and which ones are taken out again.
//!
//! Header (authenticated, in clear): version, sender's node id, key (Lamport time), generation, boot nonce, counter.
//! Body (AES-128-GCM): channel, message number, fragment i of n, chunk. Every datagram has at most [`MAX_DATAGRAM`] bytes.
//!
//! A datagram is dropped, and counted by reason, when it is malformed, under a key that is not in the ring (another cluster),
//! forged, repeated, or from an earlier start of its sender than one already heard.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use proto::model::NodeId;
use ring::aead;

use super::{
    keyring::{KeyRing, Sender},
    record::Generation,
    replay::Window,
};

/// Largest datagram: fits any underlay with the IPv6 minimum MTU of 1280 bytes only fragmented, every common one whole
/// (1500 - 40 - 8, and tunnels over it).
pub(super) const MAX_DATAGRAM: usize = 1300;
/// chitchat fills messages to the UDP maximum of 65,507 bytes; that many chunks hold one.
const MAX_FRAGMENTS: usize = 64;
/// Messages of one sender that may be incomplete at once.
const MAX_PARTIAL: usize = 32;
/// How long the rest of a message is waited for.
const PARTIAL_LIFE: Duration = Duration::from_secs(2);
/// Senders remembered; a full set of a thousand nodes and room for strangers with a good key.
const MAX_SENDERS: usize = 8192;

const VERSION: u8 = 1;
const TAG: usize = 16;

/// What a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    /// chitchat of all nodes.
    Cluster,
    /// chitchat of one network's members; the network's id.
    Network(String),
    /// Direct notices between nodes.
    DirectMessage,
}

impl Channel {
    fn tag(&self) -> (u8, &str) {
        match self {
            Channel::Cluster => (0, ""),
            Channel::Network(id) => (1, id),
            Channel::DirectMessage => (2, ""),
        }
    }

    fn from_tag(tag: u8, id: &str) -> Option<Self> {
        match (tag, id) {
            (0, "") => Some(Channel::Cluster),
            (1, id) if !id.is_empty() => Some(Channel::Network(id.to_owned())),
            (2, "") => Some(Channel::DirectMessage),
            _ => None,
        }
    }
}

/// Why a datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum DropReason {
    #[error("malformed")]
    Malformed,
    #[error("sealed with a key that is not in the ring")]
    UnknownKey,
    #[error("its seal is broken")]
    Forged,
    #[error("seen before")]
    Replayed,
    #[error("from an earlier start of its sender")]
    Outdated,
    #[error("our own")]
    Own,
}

/// Makes datagrams.
pub(super) struct Sealer {
    node: NodeId,
    generation: Generation,
    boot: [u8; 8],
    counter: u64,
    message: u32,
    key: Option<(u64, aead::LessSafeKey)>,
}

impl Sealer {
    pub(super) fn new(node: NodeId, generation: Generation) -> Self {
        Self { node, generation, boot: rand::random(), counter: 0, message: 0, key: None }
    }

    /// The datagrams that carry one message; none while there is no key, or where the message is larger than UDP allows.
    pub(super) fn seal(&mut self, ring: &KeyRing, channel: &Channel, message: &[u8]) -> Vec<Vec<u8>> {
        let Some(primary) = ring.primary() else { return Vec::new() };
        if self.key.as_ref().is_none_or(|(lamport, _)| *lamport != primary) {
            let sender = Sender { node: self.node.as_str(), generation: self.generation, boot: self.boot };
            self.key = ring.subkey(primary, &sender).map(|key| (primary, key));
        }
        let Some((_, key)) = &self.key else { return Vec::new() };
        let (tag, id) = channel.tag();
        let header_len = 2 + self.node.as_str().len() + 8 + 8 + 8 + 8;
        let room = MAX_DATAGRAM - header_len - TAG - (2 + id.len() + 4 + 2);
        let count = message.len().div_ceil(room).max(1);
        if count > MAX_FRAGMENTS {
            return Vec::new();
        }
        self.message = self.message.wrapping_add(1);
        let mut datagrams = Vec::with_capacity(count);
        for index in 0..count {
            let chunk = &message[index * room..message.len().min((index + 1) * room)];
            self.counter += 1;
            let mut out = Vec::with_capacity(header_len + room + TAG);
            out.push(VERSION);
            out.push(byte(self.node.as_str().len()));
            out.extend(self.node.as_str().as_bytes());
            out.extend(primary.to_be_bytes());
            out.extend(self.generation.to_be_bytes());
            out.extend(self.boot);
            out.extend(self.counter.to_be_bytes());
            let mut body = Vec::with_capacity(room + TAG);
            body.push(tag);
            body.push(byte(id.len()));
            body.extend(id.as_bytes());
            body.extend(self.message.to_be_bytes());
            body.push(byte(index));
            body.push(byte(count));
            body.extend(chunk);
            if key.seal_in_place_append_tag(nonce(self.counter), aead::Aad::from(&out), &mut body).is_err() {
                return Vec::new();
            }
            out.extend(body);
            datagrams.push(out);
        }
        datagrams
    }
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Who sent it: the seal proves it to be a node of the cluster that claims this id.
    pub(super) node: NodeId,
    pub(super) generation: Generation,
    pub(super) channel: Channel,
    pub(super) message: Vec<u8>,
}

struct SenderState {
    generation: Generation,
    boot: [u8; 8],
    /// Subkeys, by Lamport time.
    keys: Vec<(u64, aead::LessSafeKey)>,
    window: Window,
    partial: HashMap<(Channel, u32), Reassembly>,
    heard: Instant,
}

struct Reassembly {
    since: Instant,
    missing: usize,
    chunks: Vec<Option<Vec<u8>>>,
}

/// Opens datagrams and puts messages together.
pub(super) struct DatagramOpener {
    me: NodeId,
    known: HashMap<NodeId, SenderState>,
    /// How many were dropped, by reason.
    pub(super) dropped: BTreeMap<DropReason, u64>,
}

impl DatagramOpener {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, known: HashMap::new(), dropped: BTreeMap::new() }
    }

    /// A message, if this datagram completes one.
    pub(super) fn open(&mut self, ring: &KeyRing, datagram: &mut [u8], now: Instant) -> Option<Received> {
        match self.try_open(ring, datagram, now) {
            Ok(received) => received,
            Err(reason) => {
                *self.dropped.entry(reason).or_default() += 1;
                None
            }
        }
    }

    fn try_open(
        &mut self,
        ring: &KeyRing,
        datagram: &mut [u8],
        now: Instant,
    ) -> Result<Option<Received>, DropReason> {
        let header = Header::parse(datagram).ok_or(DropReason::Malformed)?;
        let Header { node, lamport, generation, boot, counter, len } = header;
        if node == self.me {
            return Err(DropReason::Own);
        }
        if !ring.accepts(lamport) {
            return Err(DropReason::UnknownKey);
        }
        let (aad, body) = datagram.split_at_mut(len);
        let known = match self.known.get_mut(&node) {
            Some(k) if generation < k.generation => return Err(DropReason::Outdated),
            Some(k) if k.generation == generation && k.boot == boot => Some(k),
            _ => None,
        };
        if known.as_ref().is_some_and(|k| k.window.seen(counter)) {
            return Err(DropReason::Replayed);
        }
        let sender = Sender { node: node.as_str(), generation, boot };
        let held =
            known.as_ref().and_then(|k| k.keys.iter().find(|(l, _)| *l == lamport)).map(|(_, key)| key);
        let fresh = match held {
            Some(_) => None,
            None => Some(ring.subkey(lamport, &sender).ok_or(DropReason::UnknownKey)?),
        };
        let key = held.or(fresh.as_ref()).ok_or(DropReason::UnknownKey)?;
        let plain = key
            .open_in_place(nonce(counter), aead::Aad::from(&*aad), body)
            .map_err(|_| DropReason::Forged)?;
        // Only now is the sender believed, and remembered.
        let piece = Fragment::parse(plain).ok_or(DropReason::Malformed)?;
        if !self.known.contains_key(&node) && self.known.len() >= MAX_SENDERS {
            self.known.retain(|_, k| now.duration_since(k.heard) < Duration::from_secs(600));
        }
        let new = || SenderState {
            generation,
            boot,
            keys: Vec::new(),
            window: Window::default(),
            partial: HashMap::new(),
            heard: now,
        };
        let known = self.known.entry(node.clone()).or_insert_with(new);
        if known.generation != generation || known.boot != boot {
            *known = new();
        }
        if let Some(key) = fresh {
            known.keys.retain(|(l, _)| ring.accepts(*l));
            known.keys.push((lamport, key));
        }
        known.window.mark(counter);
        known.heard = now;
        Ok(known.assemble(piece, now)?.map(|(channel, message)| Received {
            node,
            generation,
            channel,
            message,
        }))
    }
}

impl SenderState {
    fn assemble(
        &mut self,
        piece: Fragment<'_>,
        now: Instant,
    ) -> Result<Option<(Channel, Vec<u8>)>, DropReason> {
        if piece.count == 1 {
            return Ok(Some((piece.channel, piece.chunk.to_vec())));
        }
        if self.partial.len() >= MAX_PARTIAL {
            self.partial.retain(|_, p| now.duration_since(p.since) < PARTIAL_LIFE);
            if self.partial.len() >= MAX_PARTIAL {
                self.partial.clear();
            }
        }
        let key = (piece.channel, piece.message);
        let partial = self.partial.entry(key.clone()).or_insert_with(|| Reassembly {
            since: now,
            missing: piece.count,
            chunks: vec![None; piece.count],
        });
        match partial.chunks.get_mut(piece.index) {
            Some(slot @ None) => *slot = Some(piece.chunk.to_vec()),
            Some(Some(_)) | None => return Err(DropReason::Malformed),
        }
        partial.missing -= 1;
        if partial.missing > 0 {
            return Ok(None);
        }
        let whole = self.partial.remove(&key).map(|p| p.chunks.into_iter().flatten().flatten().collect());
        Ok(whole.map(|message| (key.0, message)))
    }
}

/// Puts together what members' datagrams have inside.
#[cfg(any(test, fuzzing))]
pub(super) fn assemble_all(pieces: &[&[u8]]) {
    let now = Instant::now();
    let mut known = SenderState {
        generation: 1,
        boot: [0; 8],
        keys: Vec::new(),
        window: Window::default(),
        partial: HashMap::new(),
        heard: now,
    };
    for piece in pieces.iter().filter_map(|plain| Fragment::parse(plain)) {
        let _ = known.assemble(piece, now);
        assert!(known.partial.len() <= MAX_PARTIAL);
    }
}

struct Header {
    node: NodeId,
    lamport: u64,
    generation: Generation,
    boot: [u8; 8],
    counter: u64,
    len: usize,
}

impl Header {
    fn parse(datagram: &[u8]) -> Option<Self> {
        let mut rest = Reader(datagram);
        if rest.u8()? != VERSION {
            return None;
        }
        let n = usize::from(rest.u8()?);
        let node = std::str::from_utf8(rest.take(n)?).ok()?.parse().ok()?;
        let (lamport, generation) = (rest.u64()?, rest.u64()?);
        let (boot, counter) = (rest.u64()?.to_be_bytes(), rest.u64()?);
        Some(Self { node, lamport, generation, boot, counter, len: datagram.len() - rest.0.len() })
    }
}

struct Fragment<'a> {
    channel: Channel,
    message: u32,
    index: usize,
    count: usize,
    chunk: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(plain: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(plain);
        let tag = rest.u8()?;
        let n = usize::from(rest.u8()?);
        let channel = Channel::from_tag(tag, std::str::from_utf8(rest.take(n)?).ok()?)?;
        let message = u32::from_be_bytes(rest.take(4)?.try_into().ok()?);
        let (index, count) = (usize::from(rest.u8()?), usize::from(rest.u8()?));
        let fits = (1..=MAX_FRAGMENTS).contains(&count) && index < count;
        fits.then_some(Self { channel, message, index, count, chunk: rest.0 })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Lengths here are bounded by [`MAX_FRAGMENTS`] or by an id's 64 characters.
fn byte(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn nonce(counter: u64) -> aead::Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    aead::Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;
    use proto::model::{KeySubsystem, NetworkKey};

    use super::*;

    fn ring(keys: &[(u64, u8)]) -> KeyRing {
        let key = |&(lamport, byte): &(u64, u8)| NetworkKey {
            subsystem: KeySubsystem::Gossip,
            lamport,
            key: vec![byte; 16],
        };
        KeyRing::new(&keys.iter().map(key).collect::<Vec<_>>())
    }

    fn pair() -> (Sealer, DatagramOpener) {
        (Sealer::new("alpha".parse().unwrap(), 100), DatagramOpener::new("beta".parse().unwrap()))
    }

    fn open_all(opener: &mut DatagramOpener, ring: &KeyRing, datagrams: &[Vec<u8>]) -> Vec<Received> {
        datagrams.iter().filter_map(|d| opener.open(ring, &mut d.clone(), Instant::now())).collect()
    }

    #[test]
    fn a_message_of_any_size_arrives_whole_in_any_order() {
        let (mut sealer, mut opener) = pair();
        let ring = ring(&[(1, 1)]);
        for size in [0, 1, 1000, 1300, 5000, 65_507] {
            let message: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let mut datagrams = sealer.seal(&ring, &Channel::Network("n1".into()), &message);
            assert!(datagrams.iter().all(|d| d.len() <= MAX_DATAGRAM));
            datagrams.reverse();
            let received = open_all(&mut opener, &ring, &datagrams);
            assert_eq!(received.len(), 1, "{size} bytes");
            assert_eq!(received[0].message, message);
            assert_eq!(received[0].channel, Channel::Network("n1".into()));
            assert_eq!(received[0].node.as_str(), "alpha");
        }
        assert!(opener.dropped.is_empty(), "{:?}", opener.dropped);
        assert!(sealer.seal(&ring, &Channel::DirectMessage, &vec![0; 100_000]).is_empty());
    }

    #[test]
    fn foreign_forged_repeated_and_outdated_datagrams_are_dropped() {
        let (mut sealer, mut opener) = pair();
        let ours = ring(&[(1, 1)]);
        let sealed = sealer.seal(&ours, &Channel::DirectMessage, b"hello");

        let mut forged = sealed.clone();
        *forged[0].last_mut().unwrap() ^= 1;
        assert!(open_all(&mut opener, &ours, &forged).is_empty());
        let mut renamed = sealed.clone();
        renamed[0][2] = b'b'; // the header is authenticated too
        assert!(open_all(&mut opener, &ours, &renamed).is_empty());
        assert_eq!(opener.dropped[&DropReason::Forged], 2);

        assert_eq!(open_all(&mut opener, &ours, &sealed).len(), 1);
        assert!(open_all(&mut opener, &ours, &sealed).is_empty());
        assert_eq!(opener.dropped[&DropReason::Replayed], 1);

        // Another cluster: another key under the same Lamport time, and one under an unknown time.
        let mut stranger = Sealer::new("gamma".parse().unwrap(), 100);
        let theirs = stranger.seal(&ring(&[(1, 9)]), &Channel::DirectMessage, b"hello");
        assert!(open_all(&mut opener, &ours, &theirs).is_empty());
        assert_eq!(opener.dropped[&DropReason::Forged], 3);
        let theirs = stranger.seal(&ring(&[(7, 1)]), &Channel::DirectMessage, b"hello");
        assert!(open_all(&mut opener, &ours, &theirs).is_empty());
        assert_eq!(opener.dropped[&DropReason::UnknownKey], 1);

        assert!(open_all(&mut opener, &ours, &[b"garbage".to_vec(), vec![], vec![1; 2000]]).is_empty());
        assert_eq!(opener.dropped[&DropReason::Malformed], 3);

        let mut restarted = Sealer::new("alpha".parse().unwrap(), 101);
        assert_eq!(
            open_all(&mut opener, &ours, &restarted.seal(&ours, &Channel::DirectMessage, b"x")).len(),
            1
        );
        let late = sealer.seal(&ours, &Channel::DirectMessage, b"from the grave");
        assert!(open_all(&mut opener, &ours, &late).is_empty());
        assert_eq!(opener.dropped[&DropReason::Outdated], 1);

        let mut echo = Sealer::new("beta".parse().unwrap(), 5);
        assert!(open_all(&mut opener, &ours, &echo.seal(&ours, &Channel::DirectMessage, b"x")).is_empty());
        assert_eq!(opener.dropped[&DropReason::Own], 1);
    }

    #[test]
    fn a_rotation_loses_nothing_whoever_learns_of_it_first() {
        let before = ring(&[(1, 1), (2, 2), (3, 3)]);
        let after = ring(&[(2, 2), (3, 3), (4, 4)]);
        for (sender, reader) in [(&before, &after), (&after, &before), (&after, &after)] {
            let (mut sealer, mut opener) = pair();
            let sealed = sealer.seal(sender, &Channel::DirectMessage, b"hello");
            assert_eq!(open_all(&mut opener, reader, &sealed).len(), 1);
        }
        assert_eq!(before.primary(), Some(2));
        assert_eq!(ring(&[(5, 1)]).primary(), Some(5));
        assert_eq!(KeyRing::default().primary(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_opener_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut opener = DatagramOpener::new("beta".parse().unwrap());
            prop_assert!(opener.open(&ring(&[(1, 1)]), &mut bytes.clone(), Instant::now()).is_none());
        }
    }
}
