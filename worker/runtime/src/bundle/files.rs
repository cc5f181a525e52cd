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
    push_hosts(&mut text, extra);
    for addr in addrs {
        let _ = writeln!(text, "{addr}\t{hostname}");
    }
    text
}

/// The machine's own `/etc/hosts`, and `extra` lines as given by the user.
pub fn machine_hosts(hosts: &str, extra: &[String]) -> String {
    let mut text = hosts.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    push_hosts(&mut text, extra);
    text
}

fn push_hosts(text: &mut String, extra: &[String]) {
    for line in extra {
        let mut words = line.split_whitespace();
        if let Some(addr) = words.next() {
            let _ = writeln!(text, "{addr}\t{}", words.collect::<Vec<_>>().join(" "));
        }
    }
}

/// The machine's own `/etc/resolv.conf`; what the user gives takes the place of its lines.
pub fn machine_resolv_conf(machine: &str, dns: &DnsConfig) -> String {
    let servers: Vec<String> = dns.nameservers.iter().map(|addr| addr.to_string()).collect();
    let search: Vec<&str> = dns.search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    let given = [
        ("nameserver", !servers.is_empty()),
        ("search", !dns.search.is_empty()),
        ("domain", !dns.search.is_empty()),
        ("options", !dns.options.is_empty()),
    ];
    let is_given = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        given.iter().any(|(keyword, given)| *given && word == *keyword)
    };
    let mut text = String::new();
    for line in machine.lines().filter(|line| !is_given(line)) {
        let _ = writeln!(text, "{line}");
    }
    for server in &servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (keyword, words) in [("search", search.join(" ")), ("options", dns.options.join(" "))] {
        if !words.is_empty() {
            let _ = writeln!(text, "{keyword} {words}");
        }
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
    fn on_the_machines_network_its_files_hold_but_for_what_is_given() {
        assert_eq!(machine_hosts("127.0.0.1\tlocalhost", &[]), "127.0.0.1\tlocalhost\n");
        assert_eq!(machine_hosts("a\n", &["192.0.2.1 db".to_owned()]), "a\n192.0.2.1\tdb\n");
        let machine = "# by hand\nnameserver 192.0.2.53\nsearch corp.example\noptions edns0\n";
        assert_eq!(machine_resolv_conf(machine, &DnsConfig::default()), machine);
        let dns = DnsConfig {
            nameservers: vec![IpAddr::from([192, 0, 2, 1])],
            search: vec![".".to_owned()],
            ..DnsConfig::default()
        };
        assert_eq!(machine_resolv_conf(machine, &dns), "# by hand\noptions edns0\nnameserver 192.0.2.1\n");
    }

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
