//! The files that a container finds under `/etc`. Pure.

use std::{fmt::Write, net::IpAddr};

use proto::model::DnsConfig;

/// The resolver inside each container's network namespace; port 53 of it is redirected to the node's.
pub const RESOLVER: &str = "127.0.0.11";

/// `/etc/hosts`: the usual names, `extra` lines as given by the user, then the container's own.
pub fn hosts(hostname: &str, addrs: &[IpAddr], extra: &[String]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::\tip6-localnet\n\
        ff00::\tip6-mcastprefix\n\
        ff02::1\tip6-allnodes\n\
        ff02::2\tip6-allrouters\n"
        .to_owned();
    for line in extra {
        let mut words = line.split_whitespace();
        if let Some(addr) = words.next() {
            let _ = writeln!(text, "{addr}\t{}", words.collect::<Vec<_>>().join(" "));
        }
    }
    for addr in addrs {
        let _ = writeln!(text, "{addr}\t{hostname}");
    }
    text
}

/// `/etc/resolv.conf`: our resolver only, which asks the configured upstreams.
pub fn resolv_conf(dns: &DnsConfig, host_search: &[String]) -> String {
    let mut text = format!("nameserver {RESOLVER}\n");
    let search = if dns.search.is_empty() { host_search } else { &dns.search };
    // `--dns-search .` means none.
    let search: Vec<&str> = search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let mut options: Vec<&str> = dns.options.iter().map(String::as_str).collect();
    // A service's name has no dot: without this, it would be tried with the host's domains first.
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    let _ = writeln!(text, "options {}", options.join(" "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_knows_itself_by_all_its_addresses() {
        let addrs = [IpAddr::from([10, 0, 1, 5]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 5])];
        let text = hosts("web", &addrs, &["192.0.2.1 db db.example".to_owned()]);
        assert!(text.ends_with("192.0.2.1\tdb db.example\n10.0.1.5\tweb\nfd00::5\tweb\n"), "{text}");
    }

    #[test]
    fn only_our_resolver_is_asked() {
        let host = ["corp.example".to_owned()];
        assert_eq!(
            resolv_conf(&DnsConfig::default(), &host),
            "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0\n"
        );
        let dns = DnsConfig {
            nameservers: vec![IpAddr::from([9, 9, 9, 9])],
            search: vec![".".to_owned()],
            options: vec!["ndots:2".to_owned(), "timeout:1".to_owned()],
        };
        assert_eq!(resolv_conf(&dns, &host), "nameserver 127.0.0.11\noptions ndots:2 timeout:1\n");
    }
}
