//! Which names are this machine's own. Pure: nobody is asked for an address.

use std::net::IpAddr;

/// Whether a host, with or without a port, is this machine: `localhost`, or an address that leads nowhere else. A name that only begins
/// like one (`127.evil.example`) is another machine's, which a browser can be made to take for this one (DNS rebinding).
pub fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => return is_loopback(name, true),
        Some((name, port)) => return port.strip_prefix(':').is_some_and(is_port) && is_loopback(name, true),
        None => host,
    };
    let name = match name.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return false,
        None => name,
    };
    name.eq_ignore_ascii_case("localhost") || is_loopback(name, false)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_loopback(text: &str, six: bool) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() && address.is_ipv6() == six)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_pass() {
        for host in ["localhost", "LOCALHOST:7411", "127.0.0.1", "127.0.0.1:1", "127.8.9.10", "[::1]", "[::1]:7411"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "127.evil.example",
            "127.evil.example:7411",
            "127.0.0.1.evil.example",
            "127.1.evil",
            "localhost.evil.example",
            "evil.example",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]",
            "[::1]x",
            "[::1]:x",
            "[::1",
            "::1",
            "127.0.0.1:x",
            "[127.0.0.1]",
            "127.0.0.1@evil.example",
            "localhost:99999",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
