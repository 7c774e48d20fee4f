//! Which way content takes, and how fast it may come.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Route, Server, Store, generated_bytes};

use crate::support::mounted::Mounted;
use crate::support::shell;

const KIB: u64 = 1 << 10;

/// A proxy on loopback that fetches the URL in its target's path, or in its query as `u`.
struct Proxy {
    address: String,
    /// Head of each request, as it came.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                // A client that goes away ends its own thread.
                std::thread::spawn(move || relay(client, &log).ok());
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn relay(mut client: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(client.try_clone()?);
    while lines.read_line(&mut head)? > 2 {}
    log.lock().unwrap().push(head.clone());
    let target = head.split(' ').nth(1).unwrap_or_default();
    let url = match target.split_once("?u=") {
        Some((_, url)) => percent_encoding::percent_decode_str(url)
            .decode_utf8_lossy()
            .into_owned(),
        None => target.trim_start_matches('/').to_owned(),
    };
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|url| url.split_once('/'))
        .expect("a whole URL");
    let mut range = head
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("range:"));
    let range = range.next().unwrap_or("X-None: 1");
    let mut server = TcpStream::connect(host)?;
    write!(
        server,
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\n{range}\r\nConnection: close\r\n\r\n"
    )?;
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// A file of `size` bytes on a mount with `options` is read right, wherever `server` keeps its bytes.
#[track_caller]
fn check(server: &Server, options: &[&str], size: u64) {
    server.put_generated("file.bin", size, 3);
    let mount = Mounted::new(server, "cloudreve://my/", options);
    let found = std::fs::read(mount.path("file.bin")).unwrap_or_else(|err| {
        panic!("{options:?}: {err}: {}", mount.log());
    });
    assert!(found == generated_bytes(3, 0..size), "{options:?}");
}

/// A port on which whoever connects is counted, and gets no answer.
fn nobody() -> (String, impl Fn() -> bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    (address, move || listener.accept().is_ok())
}

#[test]
fn directly_content_is_read_where_its_url_leads() {
    for store in [Store::Own, Store::Redirect, Store::Direct] {
        let server = Server::start(Options::default()).unwrap();
        server.configure(|settings| settings.store = store);
        check(&server, &[], 600 * KIB);
        check(&server, &["--download", "direct"], 600 * KIB);
    }
}

#[test]
fn by_way_of_the_server_its_content_is_read_at_its_address_whatever_host_it_names() {
    for store in [Store::Own, Store::Redirect] {
        let server = Server::start(Options::default()).unwrap();
        server.configure(|settings| settings.store = store);
        let (named, was_asked) = nobody();
        // Not a loopback name, which nobody would be sent to.
        server.set_site_url(Some(&named.replace("127.0.0.1", "drive.invalid")));
        check(&server, &["--download", "server"], 600 * KIB);
        server.set_site_url(Some(&named));
        check(&server, &["--download", "server"], 600 * KIB);
        assert!(!was_asked(), "another host was asked");
        assert!(server.count(Route::Content) > 0);
    }
    // What another storage hosts has no other way.
    let server = Server::start(Options::default()).unwrap();
    server.configure(|settings| settings.store = Store::Direct);
    check(&server, &["--download", "server"], 600 * KIB);
}

#[test]
fn a_proxy_gets_every_url_of_content_and_no_token() {
    for store in [Store::Own, Store::Direct] {
        for form in ["/", "/{url}", "/?u=", "/?u={url}"] {
            let server = Server::start(Options::default()).unwrap();
            server.configure(|settings| settings.store = store);
            let proxy = Proxy::new();
            let option = format!("proxy={}{form}", proxy.address);
            server.put_generated("file.bin", 600 * KIB, 3);
            check(&server, &["--download", &option], 600 * KIB);
            let heads = proxy.heads();
            assert!(!heads.is_empty(), "{form}");
            for head in heads {
                let head = head.to_ascii_lowercase();
                assert!(
                    !head.contains("authorization") && !head.contains("bearer"),
                    "{head}"
                );
                assert!(head.contains("range: bytes="), "{head}");
            }
            let content = server.requests().into_iter();
            let content = content.filter(|request| request.route == Route::Content);
            for request in content {
                assert_eq!(
                    request.header("user-agent"),
                    None,
                    "it did not come by the proxy"
                );
            }
        }
    }
}

#[test]
fn a_proxy_that_is_down_is_an_error_that_status_names() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("file.bin", 100 * KIB, 3);
    let options = ["--download", "proxy=http://127.0.0.1:9/", "--timeout", "3s"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let began = Instant::now();
    let error = std::fs::read(mount.path("file.bin")).unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let status = mount.report(&["status"]);
    assert!(status.contains("127.0.0.1:9 cannot be reached"), "{status}");
    let listed = std::fs::read_dir(mount.path("")).unwrap().count();
    assert_eq!(listed, 1, "names take another way");
}

#[test]
fn a_proxy_that_is_no_url_is_refused_before_anything_is_mounted() {
    let server = Server::start(Options::default()).unwrap();
    let home = crate::support::mounted::Home::new();
    let mut command = home.program();
    command
        .args(["mount", "cloudreve://my/"])
        .arg(home.path("mnt"));
    command.args(["--address", &server.address(), "--download", "proxy=relay/"]);
    let output = shell::output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("https://"),
        "{said}"
    );
    assert_eq!(server.count_all(), 0);
}

#[test]
fn a_limit_is_kept_and_is_no_stall_however_low_it_is() {
    for (limit, size) in [("48K", 144 * KIB), ("1K", 4 * KIB)] {
        let server = Server::start(Options::default()).unwrap();
        server.put_generated("file.bin", size, 3);
        // Shorter than a block takes.
        let options = ["--limit-down", limit, "--timeout", "1s"];
        let mount = Mounted::new(&server, "cloudreve://my/", &options);
        let began = Instant::now();
        let found = std::fs::read(mount.path("file.bin")).unwrap();
        let took = began.elapsed();
        assert!(found == generated_bytes(3, 0..size));
        // What a late timer is forgiven.
        let least =
            Duration::from_secs(if limit == "1K" { 4 } else { 3 }) - Duration::from_millis(20);
        assert!(took >= least, "{limit}: {took:?}");
        assert!(took < 4 * least, "{limit}: {took:?}");
    }
}

#[test]
fn among_many_who_read_at_once_a_low_limit_is_a_stall_for_none_of_them() {
    const FILES: u64 = 40;
    let server = Server::start(Options::default()).unwrap();
    for file in 0..FILES {
        server.put_generated(&format!("{file}"), KIB, file);
    }
    // So many share the line that each waits for longer than a silent connection is waited for.
    let options = ["--limit-down", "16K", "--timeout", "1s"];
    let mount = Mounted::new(&server, "cloudreve://my/", &options);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for file in 0..FILES {
            let path = mount.path(format!("{file}"));
            scope.spawn(move || {
                let found = std::fs::read(path).unwrap();
                assert!(found == generated_bytes(file, 0..KIB), "{file}");
            });
        }
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2480), "{took:?}");
    let requests = server.count(Route::Content);
    assert!(requests < 2 * FILES, "they were fetched again");
}

#[test]
fn beside_a_long_read_at_the_limit_a_small_file_comes_soon() {
    let server = Server::start(Options::default()).unwrap();
    server.put_generated("big.bin", 3072 * KIB, 1);
    server.put_generated("small.bin", 4 * KIB, 2);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--limit-down", "512K"]);
    let big = Command::new("cat")
        .arg(mount.path("big.bin"))
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut big = big.unwrap();
    shell::wait_until("the long read has begun", || {
        server.count(Route::Content) > 0
    });
    let found = std::fs::read(mount.path("small.bin")).unwrap();
    assert!(found == generated_bytes(2, 0..4 * KIB));
    assert!(
        big.try_wait().unwrap().is_none(),
        "it waited for the long read"
    );
    assert!(shell::wait(big, "cat").success());
}

#[test]
fn without_a_limit_nothing_is_slowed() {
    let server = Server::start(Options::default()).unwrap();
    check(&server, &["--limit-down", "0"], 8192 * KIB);
}
