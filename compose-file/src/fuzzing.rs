//! What a fuzz target, and its small version here, gives to the parsers.

use std::path::Path;

use crate::{Settings, emit, load, translate};

/// Reads a file, translates it, prints it, and reads that again: the same comes of it.
pub fn read(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = crate::env_file::read(bytes);
    let environment = [("A".to_owned(), "1".to_owned())].into();
    let settings = Settings {
        environment: &environment,
        folder: Path::new("/work"),
        interpolates: true,
        read: &|_| Ok(bytes.to_vec()),
    };
    let file = ("f.yml".to_owned(), text.to_owned());
    let Ok(loaded) = load(&[file.clone()], &settings) else { return };
    if let Ok(namespace) = translate::Namespace::new("s") {
        let _ = translate::plan(&namespace, &loaded.compose);
    }
    let _ = load(&[file.clone(), file], &settings);
    let printed = emit::compose(&loaded.compose);
    let settings = Settings { interpolates: false, read: &|_| Ok(Vec::new()), ..settings };
    if let Err(error) = load(&[("printed".to_owned(), printed.clone())], &settings) {
        // What Docker prints of old files is not always what their version may say.
        assert!(!matches!(error.cause, crate::Cause::Yaml { .. }), "{error}\n{printed}");
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn whatever_a_file_says_is_read_or_refused() {
        let seeds = [
            "version: \"3.8\"\nservices:\n  web:\n    image: x:$A\n    ports: [\"80:80\", {target: 53, mode: host}]\n    \
             volumes: [\"v:/x\", \"./a:/b:ro\"]\n    networks: {front: {aliases: [a]}}\nnetworks: {front: {}}\nvolumes: {v: }\n",
            "services: {a: &a {image: x, environment: {B: , C: 1}}, b: {<<: *a, deploy: {replicas: 2, resources: {limits: {cpus: '0.5', memory: 1G}}}}}",
            "services: {a: {image: x, healthcheck: {test: a b, interval: 1m}, ulimits: {nofile: 5}, logging: {driver: d}, x-a: [1, 2]}}",
            "secrets: {s: {file: ./s}}\nconfigs: {c: {external: true}}\nservices:\n  a: {secrets: [s], configs: [{source: c, mode: 0440}]}",
        ];
        smoke::smoke(seeds, 2000, read);
    }
}
