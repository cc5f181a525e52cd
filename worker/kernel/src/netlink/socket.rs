//! Sockets. The kernel answers within the system call, so that waiting is never more than its own work.

use std::{io, os::fd::AsRawFd};

use netlink_sys::{Socket as Raw, SocketAddr};

use super::{
    abi::*,
    wire::{Message, Received, attrs, messages, text, u32_at},
};
use crate::error::Cause;

/// Room for one answer: the kernel fills at most 32 KiB of a dump at a time (`netlink_recvmsg`).
const ROOM: usize = 64 * 1024;
/// How much may be sent at once; a batch of thousands of elements exceeds the default of 208 KiB.
const SEND_BUFFER: usize = 8 << 20;
/// How often a dump that changed underneath is taken again.
const DUMP_TRIES: usize = 5;

/// A netlink socket of the namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: Raw,
    seq: u32,
    room: Vec<u8>,
}

impl Socket {
    /// A socket in the calling thread's namespace, for `NETLINK_ROUTE` or `NETLINK_NETFILTER`.
    pub(crate) fn open(protocol: i32) -> io::Result<Self> {
        let mut raw = Raw::new(protocol as isize)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(true)?;
        if protocol == libc::NETLINK_ROUTE {
            raw.set_netlink_get_strict_chk(true)?;
        }
        // The forced form needs CAP_NET_ADMIN, which all else here needs too.
        let _ = nix::sys::socket::setsockopt(&raw, nix::sys::socket::sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self { raw, seq: 0, room: Vec::with_capacity(ROOM) })
    }

    /// Sends a request and waits for the acknowledgement.
    pub(crate) fn request(&mut self, mut message: Message) -> Result<(), Cause> {
        message.flag(NLM_F_REQUEST | NLM_F_ACK);
        let seq = self.next();
        self.send(message.finish(seq))?;
        self.answers(seq, |_| Ok(()))
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        mut message: Message,
        each: impl FnMut(Received<'_>) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        message.flag(NLM_F_REQUEST | NLM_F_ACK);
        let seq = self.next();
        self.send(message.finish(seq))?;
        self.answers(seq, each)
    }

    /// Asks for all objects of a kind. One that changes meanwhile is asked for again.
    pub(crate) fn dump<T>(
        &mut self,
        mut message: Message,
        mut each: impl FnMut(Received<'_>) -> Result<Option<T>, Cause>,
    ) -> Result<Vec<T>, Cause> {
        message.flag(NLM_F_REQUEST | NLM_F_DUMP);
        let mut found = Vec::new();
        for _ in 0..DUMP_TRIES {
            found.clear();
            let mut torn = false;
            let seq = self.next();
            self.send(message.finish(seq))?;
            self.answers(seq, |m| {
                torn |= m.flags & NLM_F_DUMP_INTR != 0;
                if m.kind != NLMSG_DONE {
                    found.extend(each(m)?);
                }
                Ok(())
            })?;
            if !torn {
                break;
            }
        }
        Ok(found)
    }

    /// Sends nftables changes as one transaction: all are made, or none.
    pub(crate) fn transaction(&mut self, changes: Vec<Message>) -> Result<(), Cause> {
        let edge = |kind| Message::new(kind, NLM_F_REQUEST, &nfgen(AF_UNSPEC, NFTABLES_RES_ID));
        let first = self.next();
        let mut out = Vec::with_capacity(changes.iter().map(Message::len).sum::<usize>() + 64);
        out.extend_from_slice(edge(NFNL_MSG_BATCH_BEGIN).finish(first));
        let count = changes.len();
        let mut last = first;
        for (i, mut change) in changes.into_iter().enumerate() {
            last = self.next();
            change.flag(NLM_F_REQUEST | if i + 1 == count { NLM_F_ACK } else { 0 });
            out.extend_from_slice(change.finish(last));
        }
        let end = self.next();
        out.extend_from_slice(edge(NFNL_MSG_BATCH_END).finish(end));
        self.send(&out)?;
        // The refused changes are answered in order, then the last one is acknowledged even if nothing was committed. A batch
        // that is refused as a whole is answered under its first number alone.
        let mut refused = None;
        loop {
            self.receive()?;
            for m in messages(&self.room)
                .filter(|m| m.kind == NLMSG_ERROR && m.seq.wrapping_sub(first) <= end - first)
            {
                if let Err(cause) = acknowledgement(m) {
                    refused.get_or_insert(cause);
                }
                if m.seq == last || m.seq == first {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Cause> {
        self.raw.send(bytes, 0).map_err(Cause::system("netlink send")).map(drop)
    }

    fn receive(&mut self) -> Result<(), Cause> {
        loop {
            self.room.clear();
            match self.raw.recv(&mut self.room, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Cause::system("netlink receive")(e)),
            }
        }
    }

    /// Hands over the answers to `seq` until the last; older ones, of a request that was given up, are passed by.
    fn answers(
        &mut self,
        seq: u32,
        mut each: impl FnMut(Received<'_>) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let mut outcome = Ok(());
        loop {
            self.receive()?;
            for m in messages(&self.room).filter(|m| m.seq == seq) {
                match m.kind {
                    NLMSG_ERROR => return outcome.and(acknowledgement(m)),
                    NLMSG_DONE => {
                        // A dump that fails midway says so here.
                        let code = u32_at(m.payload, 0) as i32;
                        if code < 0 && outcome.is_ok() {
                            outcome = Err(refusal(code, None));
                        }
                        return outcome.and_then(|()| each(m));
                    }
                    // What follows is still read, so that it is not taken for the next answer.
                    _ if outcome.is_ok() => outcome = each(m),
                    _ => {}
                }
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.raw.as_raw_fd()
    }
}

/// `struct nfgenmsg`.
pub(crate) fn nfgen(family: u8, res_id: u16) -> [u8; 4] {
    let id = res_id.to_be_bytes();
    [family, 0, id[0], id[1]]
}

fn refusal(code: i32, detail: Option<String>) -> Cause {
    Cause::Refused { error: io::Error::from_raw_os_error(-code), detail }
}

fn acknowledgement(m: Received<'_>) -> Result<(), Cause> {
    let code = u32_at(m.payload, 0) as i32;
    if code == 0 {
        return Ok(());
    }
    // The error number, the header of the message that was refused (its body is left out), then attributes.
    let detail = (m.flags & NLM_F_ACK_TLVS != 0)
        .then(|| attrs(m.payload, 20).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, v)| text(v)))
        .flatten();
    Err(refusal(code, detail))
}
