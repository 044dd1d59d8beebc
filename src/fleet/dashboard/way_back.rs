//! Where somebody is led who signs in: to the page that they were going to, if it is one of this server's.

/// Bytes of the path that somebody is led back to.
const TO_BYTES_MAX: usize = 512;

/// The path of the form, for somebody who was going to a page.
pub(super) fn sign_in_path(to: &str) -> String {
    let query = || form_urlencoded::Serializer::new(String::new()).append_pair("to", to).finish();
    if page_of_ours(to) == "/" { "/sign-in".into() } else { format!("/sign-in?{}", query()) }
}

/// The page of this server that a text names; the first one where it names none, or one of somebody else's (`//host`).
pub(super) fn page_of_ours(to: &str) -> &str {
    let is_ours = to.len() <= TO_BYTES_MAX
        && to.starts_with('/')
        && !to.starts_with("//")
        && to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours && !to.starts_with("/sign-") { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for ours in ["/", "/devices?from=3", "/channels/a%20b/compare?a=1&b=2"] {
            assert_eq!(page_of_ours(ours), ours);
        }
        let long = format!("/{}", "a".repeat(TO_BYTES_MAX));
        for others in ["", "//evil", "https://evil", "/\\evil", "/a\r\nset-cookie: b", "evil", "/sign-in", "/ä", &long]
        {
            assert_eq!(page_of_ours(others), "/");
        }
        assert_eq!(sign_in_path("/"), "/sign-in");
        assert_eq!(sign_in_path("/audit?who=x&at=1"), "/sign-in?to=%2Faudit%3Fwho%3Dx%26at%3D1");
    }
}
