//! What others change shows as soon as the server tells it, however long answers are believed.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use cloudreve_test_server::{Options, Route, Server};

use crate::support::mounted::Mounted;
use crate::support::shell;

/// A drive that is believed for longer than any test takes, and tells what happens at once.
fn drive() -> (Server, Mounted) {
    drive_with(|_| {})
}

/// The same with more on it from the start, by `prepare`.
fn drive_with(prepare: impl FnOnce(&Server)) -> (Server, Mounted) {
    let server = Server::start(Options::default()).unwrap();
    server.configure_events(|events| events.debounce = Duration::from_millis(20));
    server.put("here/file.txt", b"old".to_vec());
    server.put("here/deep/other.txt", b"other".to_vec());
    server.put("there/one.txt", b"one".to_vec());
    prepare(&server);
    let mount = Mounted::new(&server, "cloudreve://my/", &["--metadata-ttl", "10m"]);
    server.wait_for_event_streams(1);
    for folder in ["", "here", "here/deep", "there"] {
        look(&mount, folder);
    }
    for file in ["here/file.txt", "here/deep/other.txt", "there/one.txt"] {
        read(&mount, file).unwrap();
    }
    (server, mount)
}

/// The names in a folder, each looked at.
fn look(mount: &Mounted, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(mount.path(folder)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.iter().for_each(|name| {
        stat(mount, &format!("{folder}/{name}"));
    });
    names.sort();
    names
}

fn stat(mount: &Mounted, path: &str) -> Option<Metadata> {
    mount.path(path).symlink_metadata().ok()
}

fn read(mount: &Mounted, path: &str) -> Option<String> {
    std::fs::read_to_string(mount.path(path)).ok()
}

#[test]
fn what_another_client_makes_changes_renames_moves_and_deletes_shows() {
    let (server, mount) = drive();
    let number = |path: &str| stat(&mount, path).map(|stat| stat.ino());

    assert!(stat(&mount, "here/new.txt").is_none());
    server.put("here/new.txt", b"new".to_vec());
    shell::wait_until("a new file shows", || {
        read(&mount, "here/new.txt").as_deref() == Some("new")
    });
    assert_eq!(look(&mount, "here"), ["deep", "file.txt", "new.txt"]);

    server.put("here/file.txt", b"newer content".to_vec());
    shell::wait_until("new content shows", || {
        read(&mount, "here/file.txt").as_deref() == Some("newer content")
    });
    assert_eq!(stat(&mount, "here/file.txt").unwrap().size(), 13);

    let before = number("here/file.txt");
    server.rename("here/file.txt", "renamed.txt");
    shell::wait_until("a new name shows", || {
        stat(&mount, "here/file.txt").is_none() && number("here/renamed.txt") == before
    });
    assert_eq!(look(&mount, "here"), ["deep", "new.txt", "renamed.txt"]);

    let before = number("here/deep/other.txt");
    server.move_into("here/deep", "there");
    shell::wait_until("a folder shows where it was moved to", || {
        stat(&mount, "here/deep").is_none() && number("there/deep/other.txt") == before
    });
    assert_eq!(look(&mount, "there"), ["deep", "one.txt"]);
    assert_eq!(read(&mount, "there/deep/other.txt").unwrap(), "other");

    server.remove("there/one.txt");
    shell::wait_until("a deleted file is gone", || {
        stat(&mount, "there/one.txt").is_none()
    });
    assert_eq!(look(&mount, "there"), ["deep"]);
    let stream = mount.status()["server"]["event_stream"].to_string();
    assert!(stream.contains("healthy"), "{stream}");
}

#[test]
fn what_changed_while_the_stream_was_away_shows_once_it_is_back() {
    let (server, mount) = drive();
    // What was not told yet is lost with it.
    server.configure_events(|events| events.loss = true);
    server.put("here/new.txt", b"new".to_vec());
    server.cut_events();
    server.configure_events(|events| events.loss = false);
    shell::wait_until("what nobody told shows", || {
        stat(&mount, "here/new.txt").is_some()
    });
}

#[test]
fn our_own_changes_are_not_told_to_us_and_nothing_is_asked_again_for_them() {
    let (server, mount) = drive();
    std::fs::write(mount.path("here/ours.txt"), "ours").unwrap();
    std::fs::create_dir(mount.path("here/folder")).unwrap();
    std::fs::rename(mount.path("there/one.txt"), mount.path("here/one.txt")).unwrap();
    mount.sync();
    server.reset_counters();
    server.put("there/mark.txt", b"mark".to_vec());
    shell::wait_until("what is told after them is there", || {
        stat(&mount, "there/mark.txt").is_some()
    });
    let names = ["deep", "file.txt", "folder", "one.txt", "ours.txt"];
    assert_eq!(look(&mount, "here"), names);
    let asked: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| matches!(request.route, Route::List | Route::Info))
        .collect();
    assert!(asked.len() <= 2, "one folder changed: {asked:?}");
}

#[test]
fn who_has_a_file_open_keeps_his_version_and_what_is_written_here_stays() {
    let (server, mount) = drive();
    let mut open = std::fs::File::open(mount.path("here/file.txt")).unwrap();
    server.put("here/file.txt", b"newer content".to_vec());
    shell::wait_until("new content shows to who opens it", || {
        read(&mount, "here/file.txt").as_deref() == Some("newer content")
    });
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "old");

    use std::os::unix::fs::FileExt;
    let ours = std::fs::File::options()
        .write(true)
        .open(mount.path("there/one.txt"))
        .unwrap();
    ours.write_all_at(b"our", 0).unwrap();
    server.put("there/one.txt", b"theirs".to_vec());
    server.put("there/mark.txt", b"mark".to_vec());
    shell::wait_until("what was told after it is there", || {
        stat(&mount, "there/mark.txt").is_some()
    });
    assert_eq!(read(&mount, "there/one.txt").unwrap(), "our");
    drop(ours);
    mount.sync();
    let status = mount.status();
    assert_eq!(status["conflicts"].as_array().unwrap().len(), 1);
    assert_eq!(server.names("there").unwrap().len(), 3);
}

/// The server lets so many changes of `paths` go at once, one after the other.
fn tell_of(server: &Server, paths: impl Iterator<Item = String>) {
    let told = paths.map(|path| {
        let id = server.file_id(&path);
        let data = format!(r#"{{"type":"modify","file_id":"{id}","from":"/{path}","to":""}}"#);
        format!("event:event\ndata:{data}\n\n")
    });
    server.send_events(&told.collect::<String>());
}

#[test]
fn what_is_in_use_is_listed_anew_before_anybody_looks_when_not_all_was_told() {
    let (server, mount) = drive();
    server.configure_events(|events| events.loss = true);
    server.put("here/new.txt", b"new".to_vec());
    server.remove("there/one.txt");
    server.reset_counters();
    // As many as that come of a crowd, of which the server drops the rest.
    tell_of(&server, std::iter::repeat_n("here/file.txt".to_owned(), 17));
    shell::wait_until("all four folders are listed", || {
        server.count(Route::List) == 4
    });
    // Those are on their way, and who looks waits for them.
    assert_eq!(look(&mount, "here"), ["deep", "file.txt", "new.txt"]);
    assert_eq!(look(&mount, "there"), [""; 0]);
    look(&mount, "here/deep");
    look(&mount, "");
    assert_eq!(server.count(Route::List), 4);
}

#[test]
fn each_changed_name_costs_one_question_at_most() {
    let many = |number: usize| format!("many/{number}.txt");
    let (server, mount) = drive_with(|server| {
        (0..300).for_each(|number| drop(server.put(&many(number), b"old".to_vec())));
    });
    look(&mount, "many");
    server.reset_counters();
    for number in [3, 50, 77, 120, 200, 255, 299] {
        server.put(&many(number), b"newer".to_vec());
    }
    server.put("here/new.txt", b"new".to_vec());
    server.put("here/file.txt", b"newer".to_vec());
    server.rename("there/one.txt", "mark.txt");
    shell::wait_until("what is told last shows", || {
        stat(&mount, "there/mark.txt").is_some()
    });
    let names = |folder: &str| look(&mount, folder).len();
    assert_eq!((names("many"), names("here"), names("there")), (300, 3, 1));
    for number in [3, 299] {
        assert_eq!(stat(&mount, &many(number)).unwrap().size(), 5);
    }
    let asked = server.count(Route::List) + server.count(Route::Info);
    assert!(asked <= 10, "ten changes: {:?}", server.requests());
}

/// What the daemon has used of a core so far.
fn cpu_time(mount: &Mounted) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", mount.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // utime and stime are fields 14 and 15, in ticks of which each Linux has 100 a second for programs (→ proc(5)).
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_thousand_events_a_second_take_a_fifth_of_a_core_at_most() {
    const SECONDS: u64 = 5;
    let (server, mount) = drive_with(|server| server.add_many("many", 2000));
    let names = look(&mount, "many");
    let before = cpu_time(&mount);
    let began = Instant::now();
    for tenth in 0..SECONDS * 10 {
        // Not a synchronisation: the pace of the events.
        let next = began + Duration::from_millis(100 * tenth);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let paths = names.iter().map(|name| format!("many/{name}"));
        tell_of(&server, paths.cycle().skip(tenth as usize * 100).take(100));
        // Somebody uses it meanwhile.
        stat(&mount, &format!("many/{}", names[tenth as usize]));
    }
    let took = cpu_time(&mount) - before;
    println!("{took:?} of {SECONDS} s");
    assert!(took < Duration::from_secs(SECONDS) / 5, "{took:?}");
}
