//! What a fuzz target, and its small version here, gives to the parsers.

/// All parsers, one after the other.
pub fn read(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (super::container::volume(text), super::container::tmpfs(text), super::container::restart(text));
    let _ = (super::container::device(text), super::container::gpus(text));
    let _ = super::csv::fields(text);
    let _ = super::endpoint::endpoint(text);
    let _ = (super::image::registry(text), super::image::without_digest(text));
    let _ = super::keyval::environment_file(bytes, &|_| None);
    let _ = super::mount::mount(text);
    let _ = super::network::attachment(text);
    let _ = super::port::publish(text);
    let _ = super::port::unpublish(text);
    let _ = super::shell::words(text);
    let _ = (super::units::memory(text), super::units::cpus(text), super::units::duration(text));
    let _ = super::time::moment(text);
    let _ = (super::units::tail(text), super::units::ulimit(text), super::units::host(text));
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn whatever_is_typed_is_read_or_refused() {
        let seeds = [
            "8080-8090:80-90/tcp",
            "mode=host,published=8080,target=80,protocol=udp",
            "type=volume,source=data,target=/x,volume-opt=\"a=b,c\"",
            "name=app,alias=web,driver-opt=a=b",
            "1.5gb",
            "1h2m3.5s",
            "2023-11-14T22:13:20.5+02:00",
            "nofile=1024:2048",
            "host:10.0.0.1",
            "sh -c 'echo \"a b\"' \\\\x",
            "registry:5000/team/web:1@sha256:0123",
            "A=b\n# c\nD\n",
        ];
        smoke::smoke(seeds, 3000, read);
    }
}
