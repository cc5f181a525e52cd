//! What upstream servers answered, for as long as they allow; pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, RData, RecordType},
};

/// Longest time that an answer is kept.
const LONGEST: Duration = Duration::from_secs(3600);
/// Longest time that an absence is kept (RFC 2308 section 5 allows hours; names of a cluster come and go).
const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

/// What identifies a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Lower case, no dot at the end.
    pub name: String,
    /// Type asked for.
    pub kind: RecordType,
    /// Class asked for.
    pub class: DNSClass,
    /// Which servers: containers with their own upstreams may see another world.
    pub servers: Vec<std::net::SocketAddr>,
}

struct Entry {
    message: Message,
    stored: Instant,
    life: Duration,
}

/// A bounded cache.
pub struct Cache {
    entries: HashMap<Key, Entry>,
    capacity: usize,
}

impl Cache {
    /// Room for this many answers.
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity }
    }

    /// A live answer, its TTLs lowered by its age.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.stored);
        if age >= entry.life {
            return None;
        }
        let mut message = entry.message.clone();
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for record in
            message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals)
        {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
        Some(message)
    }

    /// Keeps an answer if it may be kept.
    pub fn put(&mut self, key: Key, message: &Message, now: Instant) {
        let Some(life) = life(message) else { return };
        if self.entries.len() >= self.capacity {
            self.entries.retain(|_, e| now.saturating_duration_since(e.stored) < e.life);
        }
        if self.entries.len() >= self.capacity {
            // Still full of live answers: the oldest tenth goes.
            let mut ages: Vec<Instant> = self.entries.values().map(|e| e.stored).collect();
            ages.sort_unstable();
            let limit = ages[ages.len() / 10];
            self.entries.retain(|_, e| e.stored > limit);
        }
        self.entries.insert(key, Entry { message: message.clone(), stored: now, life });
    }
}

fn life(message: &Message) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    match message.metadata.response_code {
        _ if message.metadata.truncation => None,
        ResponseCode::NoError if !message.answers.is_empty() => {
            message.answers.iter().map(|r| r.ttl).min().map(|ttl| seconds(ttl).min(LONGEST))
        }
        // An absence lives as long as the SOA in the authority section says (RFC 2308 section 5), else not at all.
        ResponseCode::NoError | ResponseCode::NXDomain => {
            message.authorities.iter().find_map(|r| match &r.data {
                RData::SOA(soa) => Some(seconds(r.ttl.min(soa.minimum)).min(LONGEST_NEGATIVE)),
                _ => None,
            })
        }
        _ => None,
    }
    .filter(|life| !life.is_zero())
}
