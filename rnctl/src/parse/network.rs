//! `--network app` or `--network name=app,alias=web,driver-opt=k=v`.

use proto::model::NetworkAttachmentConfig;

use super::{csv, keyval};

/// Parses one `--network` of a service.
pub fn attachment(text: &str) -> Result<NetworkAttachmentConfig, String> {
    let mut config = NetworkAttachmentConfig {
        target: String::new(),
        aliases: Vec::new(),
        driver_opts: Default::default(),
    };
    if !text.contains('=') {
        if text.is_empty() {
            return Err("the network's name is empty".into());
        }
        config.target = text.to_owned();
        return Ok(config);
    }
    for (key, value) in csv::pairs(text)? {
        let value = value.ok_or_else(|| format!("invalid field {key:?}: write key=value"))?;
        match key.as_str() {
            "name" => config.target = value,
            "alias" => config.aliases.push(value),
            "driver-opt" => {
                let (key, value) = keyval::strict_pair(&value)?;
                config.driver_opts.insert(key, value);
            }
            _ => return Err(format!("invalid field key {key:?}: use name, alias, driver-opt")),
        }
    }
    if config.target.is_empty() {
        return Err(format!("{text:?} names no network: add name=…"));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long() {
        assert!(attachment("app").is_ok_and(|a| a.target == "app"));
        let long = attachment("name=app,alias=a,alias=b,driver-opt=k=v");
        assert!(long.is_ok_and(|a| a.target == "app"
            && a.aliases == ["a", "b"]
            && a.driver_opts.get("k").is_some_and(|v| v == "v")));
        for bad in ["", "alias=a", "name=app,ip=10.0.0.1", "name=app,driver-opt=k"] {
            assert!(attachment(bad).is_err(), "{bad}");
        }
    }
}
