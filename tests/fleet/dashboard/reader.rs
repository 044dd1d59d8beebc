//! Somebody with a browser: cookies, forms, and the headers that browsers send.

use crate::client::{Answer, raw, request};
use crate::server::Server;
use std::collections::BTreeMap;

/// What a browser says of a form on a page of the server.
pub const OURS: &[(&str, &str)] = &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost")];

pub struct Reader {
    pub address: String,
    pub cookies: BTreeMap<String, String>,
}

impl Reader {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), cookies: BTreeMap::new() }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[("accept", "text/html,*/*")], "")
    }

    /// A form with these fields and the token of a page.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.form_token();
        let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let fields: String = fields.iter().map(|(name, value)| format!("&{name}={}", encoded(value))).collect();
        self.send("POST", path, OURS, &format!("token={token}{fields}"))
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.send_bytes(method, path, &[headers, &[kind]].concat(), body.as_bytes())
    }

    pub fn send_bytes(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let headers = [headers, &[("cookie", cookies.as_str())]].concat();
        let answer = raw(&self.address, &request(method, path, &headers, body));
        for line in answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")) {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            }
        }
        answer
    }

    /// The token of a form on a page: of the session, or of the form to sign in.
    pub fn form_token(&mut self) -> String {
        let page = match self.get("/") {
            answer if answer.status == 200 => answer,
            _ => self.get("/sign-in"),
        };
        page.text().split_once("name=\"token\" value=\"").unwrap().1[..64].to_owned()
    }

    pub fn sign_in(&mut self, secret: &str) -> Answer {
        self.post("/sign-in", &[("secret", secret)])
    }
}

impl Server {
    /// The operator, signed in.
    pub fn reader(&self) -> Reader {
        let mut reader = Reader::new(&self.address);
        assert_eq!(reader.sign_in(&self.operator_token()).status, 303);
        reader
    }
}
