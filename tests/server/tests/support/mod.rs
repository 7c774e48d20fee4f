//! A client that hides nothing: one connection a request, HTTP/1.1 by hand.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{self, Read, Write};
use std::net::TcpStream;

use cloudreve_test_server::Server;
use serde_json::Value;

/// What came back, headers in lower case.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|err| panic!("{}: {text:?}: {err}", self.status))
    }
}

/// Somebody who asks; with an empty access token, anonymous.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Client {
    pub(crate) fn signed_in(server: &Server) -> Self {
        let (access, refresh) = server.issue_tokens(&server.user().email);
        Self {
            address: server.address(),
            access,
            refresh,
        }
    }

    pub(crate) fn signed_in_again(&self, server: &Server) -> Self {
        Self::signed_in(server)
    }

    pub(crate) fn anonymous(&self) -> Self {
        self.with_token("")
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            access: token.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn at(&self, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            ..self.clone()
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.raw("GET", &format!("/api/v4{path}"), &[], b"").json()
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.raw(
            "POST",
            &format!("/api/v4{path}"),
            &[],
            body.to_string().as_bytes(),
        )
        .json()
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Value {
        self.raw(
            "PUT",
            &format!("/api/v4{path}"),
            &[],
            body.to_string().as_bytes(),
        )
        .json()
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str, body: &Value) -> Value {
        self.raw(
            "DELETE",
            &format!("/api/v4{path}"),
            &[],
            body.to_string().as_bytes(),
        )
        .json()
    }

    #[track_caller]
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_raw(method, path, headers, body).unwrap()
    }

    /// An answer whose body was cut is an answer; one without headers is an error.
    pub(crate) fn try_raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://"))?;
        self.write(&mut stream, method, path, headers, body)?;
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes);
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(at) = at else {
            return Err(end.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()));
        };
        let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
        Ok(Answer {
            status: status.unwrap_or(0),
            headers: headers.collect(),
            body: bytes[at + 4..].to_vec(),
        })
    }

    /// Sends a request and reads nothing.
    pub(crate) fn send(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://")).unwrap();
        self.write(&mut stream, method, path, &[], b"").unwrap();
        stream
    }

    /// Sends a request and reads the beginning of its answer.
    pub(crate) fn begin(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = self.send(method, path);
        stream.read_exact(&mut [0; 4096]).unwrap();
        stream
    }

    fn write(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n");
        if !self.access.is_empty() {
            head += &format!("Authorization: Bearer {}\r\n", self.access);
        }
        if !headers.iter().any(|(name, _)| *name == "Transfer-Encoding") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.write_all(body)
    }
}
