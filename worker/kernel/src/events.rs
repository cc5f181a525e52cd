//! Being told that Linux changed, by whomever: the reason to look again before the next tick.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use netlink_sys::{Socket, SocketAddr};
use tokio::io::{Interest, unix::AsyncFd};

use super::{netns, step::Ns};

/// Links, addresses, routes and rules (`RTNLGRP_*`): LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
/// Neighbours are left out: those that are not ours change all the time.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// `NFNLGRP_NFTABLES`.
const NFTABLES_GROUPS: [u32; 1] = [7];

/// Says when something changed in a namespace: also when we did it, so a level-triggered loop looks once more than it must.
#[derive(Debug)]
pub struct Events {
    route: AsyncFd<Fd>,
    nftables: AsyncFd<Fd>,
}

#[derive(Debug)]
struct Fd(Socket);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Events {
    /// Starts listening. Needs a tokio runtime.
    pub fn open(ns: &Ns) -> io::Result<Self> {
        let listen = |protocol: i32, groups: &[u32]| {
            let mut socket = Socket::new(protocol as isize)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            groups.iter().try_for_each(|group| socket.add_membership(*group))?;
            socket.set_non_blocking(true)?;
            io::Result::Ok(Fd(socket))
        };
        let (route, nftables) = netns::in_ns(ns, || {
            io::Result::Ok((
                listen(libc::NETLINK_ROUTE, &ROUTE_GROUPS)?,
                listen(libc::NETLINK_NETFILTER, &NFTABLES_GROUPS)?,
            ))
        })??;
        // SAFETY: `Fd` is one socket, the same for as long as it lives, and closed only when it is dropped.
        let watch = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { route: watch(route)?, nftables: watch(nftables)? })
    }

    /// Waits for a change. Changes between two calls are not lost, and count as one. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        tokio::select! {
            changed = drain(&self.route) => changed,
            changed = drain(&self.nftables) => changed,
        }
    }
}

async fn drain(socket: &AsyncFd<Fd>) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    let mut room = Vec::with_capacity(64 * 1024);
    loop {
        room.clear();
        match socket.get_ref().0.recv(&mut room, libc::MSG_DONTWAIT) {
            Ok(_) => {}
            // So much happened that the queue ran over: that it did is all that is needed.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
}
