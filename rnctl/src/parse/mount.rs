//! `--mount type=bind,source=/a,target=/b,readonly`.

use std::collections::BTreeMap;

use proto::{model::Mount, parse::size, rules};

use super::{csv, keyval, refusal};

/// Parses one `--mount`.
pub fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for (key, value) in csv::pairs(text)? {
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => mount.read_only = true,
                "volume-nocopy" | "bind-nonrecursive" => drop(mount.options.insert(key, "true".into())),
                _ => return Err(format!("invalid field '{key}' must be a key=value pair")),
            }
            continue;
        };
        let flag = |value: &str| rules::mount::boolean(&key, value).map_err(refusal);
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => mount.source = value,
            "target" | "dst" | "destination" => mount.target = value,
            "readonly" | "ro" => mount.read_only = flag(&value)?,
            "volume-driver" => mount.driver = value,
            "volume-opt" => put(&mut mount.driver_options, &value)?,
            "volume-label" => put(&mut mount.labels, &value)?,
            "volume-nocopy" | "bind-nonrecursive" => {
                let value = flag(&value)?.to_string();
                mount.options.insert(key, value);
            }
            // As everybody reads it, whatever its suffix.
            "tmpfs-size" => {
                let bytes = size::bytes(&value).map_err(|e| format!("invalid value for {key}: {e}"))?;
                mount.options.insert(key, bytes.to_string());
            }
            "bind-propagation" | "consistency" => drop(mount.options.insert(key, value.to_lowercase())),
            "bind-recursive" | "tmpfs-mode" | "volume-subpath" => drop(mount.options.insert(key, value)),
            _ => return Err(format!("unexpected key '{key}' in '{text}'")),
        }
    }
    // A template's place in it is filled in by the managers, who check it then.
    let is_template = [&mount.source, &mount.target].iter().any(|text| text.contains("{{"));
    if !is_template {
        rules::mount::one(&mount).map_err(refusal)?;
    }
    Ok(mount)
}

/// One of several `key=value`, each under its own key.
fn put(map: &mut BTreeMap<String, String>, text: &str) -> Result<(), String> {
    let (key, value) = keyval::pair(text)?;
    map.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let bind = mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave");
        assert_eq!(
            bind,
            Ok(Mount {
                kind: "bind".into(),
                source: "/a".into(),
                target: "/b".into(),
                read_only: true,
                options: [("bind-propagation".to_owned(), "rslave".to_owned())].into(),
                ..Mount::default()
            })
        );
        assert!(mount("source=data,target=/d").is_ok_and(|m| m.kind == "volume"));
        assert!(mount("type=tmpfs,target=/t,tmpfs-size=1m,readonly=false").is_ok_and(|m| !m.read_only));
        let nfs = mount(
            "type=volume,source=n,target=/d,volume-driver=local,volume-label=a=b,volume-label=c,volume-opt=type=nfs,\
             \"volume-opt=o=addr=10.0.0.1,rw\",volume-opt=device=:/srv",
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let text = |map: &BTreeMap<String, String>| format!("{map:?}");
        assert_eq!(nfs.driver, "local");
        assert_eq!(
            text(&nfs.driver_options),
            r#"{"device": ":/srv", "o": "addr=10.0.0.1,rw", "type": "nfs"}"#
        );
        assert_eq!(text(&nfs.labels), r#"{"a": "b", "c": ""}"#);
        for (size, want) in [("64MB", "67108864"), ("1.5g", "1610612736"), ("100", "100")] {
            let tmpfs = mount(&format!("type=tmpfs,target=/t,tmpfs-size={size},tmpfs-mode=700"));
            assert_eq!(
                tmpfs.ok().and_then(|m| m.options.get("tmpfs-size").cloned()).as_deref(),
                Some(want),
                "{size}"
            );
        }
        assert!(
            mount("source=data-{{.Task.Slot}},target=/d").is_ok_and(|m| m.source == "data-{{.Task.Slot}}")
        );
        for bad in [
            "source=d,target=/d,volume-driver=rexray",
            "source=d,target=/d,volume-opt=type=nfs",
            "source=d,target=/d,volume-opt==x",
            "source=d,target=/d,volume-subpath=a",
            "type=bind,source=/a,target=/b,bind-recursive=nonsense",
            "type=bind,source=/a,target=/b,bind-propagation=rshared",
            "type=tmpfs,target=/t,tmpfs-size=lots",
            "source=d,target=/d,readonly,nocopy",
            "type=bind,target=/b",
            "type=bind,source=a,target=/b",
            "type=tmpfs,source=/a,target=/b",
            "type=npipe,target=/b",
            "target=b",
            "type=bind,source=/a",
            "type=bind,source=/a,target=/b,tmpfs-size=1",
            "type=bind,source=/a,target=/b,colour=red",
            "type=bind,source=/a,target=/b,ro=maybe",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
