//! Runs the cases, several at once, and says at the end what ran against what.
//!
//! A case that panics has failed; its assertion's words are the report. No case is passed over in silence: one that
//! does not run on a server is counted there as such.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;

use crate::subject::{Site, Subject};

/// A belief: its name is the sentence, its body fails where the server says otherwise.
pub(crate) struct Case {
    /// `file::sentence_with_underscores`.
    pub(crate) name: &'static str,
    /// Plays the case; panics where the belief does not hold.
    pub(crate) play: fn(Arc<Subject>) -> BoxFuture<'static, ()>,
}

/// A table of cases from the functions that hold them.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$($crate::runner::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            play: |subject| Box::pin(async move { $name(&subject).await }),
        }),*]
    };
}
pub(crate) use cases;

/// Several tables of cases, a file each.
pub(crate) type Tables = &'static [&'static [Case]];

/// Cases at once on the test server, where each has its own folder and nobody waits for anybody.
const AT_ONCE: usize = 8;

/// Cases at once on a real server: a SQLite install serves one query at a time, and more writers only wait.
const AT_ONCE_ON_A_REAL_SERVER: usize = 2;

/// How the cases went on one server.
struct Tally {
    server: String,
    held: usize,
    failed: Vec<&'static str>,
    not_run: usize,
    seconds: f32,
}

/// Runs everything that the arguments ask for. The exit code is a failure if any belief does not hold.
pub(crate) fn run(anywhere: Tables, on_test_server: Tables) -> ExitCode {
    let (anywhere, on_test_server) = (chosen(anywhere), chosen(on_test_server));
    if std::env::args().any(|arg| arg == "--list") {
        anywhere
            .iter()
            .chain(&on_test_server)
            .for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    // The client wants a TLS provider even where every address is plain HTTP. A second installation is an error that
    // changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let tallies = runtime.block_on(against_all(&anywhere, &on_test_server));
    tallies.iter().for_each(report);
    if tallies.iter().all(|tally| tally.failed.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The cases whose names contain a word of the command line; all if there is none.
fn chosen(tables: Tables) -> Vec<&'static Case> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |case: &&Case| {
        words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
    };
    tables.iter().copied().flatten().filter(wanted).collect()
}

async fn against_all(anywhere: &[&'static Case], on_test_server: &[&'static Case]) -> Vec<Tally> {
    let mut tallies = vec![against_test_server(anywhere, on_test_server).await];
    match Site::real().await {
        Some(site) => tallies.push(against_real_server(site, anywhere, on_test_server.len()).await),
        None => {
            println!("no real server: CLOUDREVE_TEST_ADDRESS, _USER and _PASSWORD would name one")
        }
    }
    tallies
}

async fn against_test_server(
    anywhere: &[&'static Case],
    on_test_server: &[&'static Case],
) -> Tally {
    let started = Instant::now();
    let site = Arc::new(Site::test_server().await);
    let mut outcomes = play_all(anywhere, AT_ONCE, |_| std::future::ready(Arc::clone(&site))).await;
    outcomes.extend(
        play_all(on_test_server, AT_ONCE, |_| async {
            Arc::new(Site::test_server().await)
        })
        .await,
    );
    Tally::of("the test server".to_owned(), outcomes, 0, started)
}

async fn against_real_server(site: Site, cases: &[&'static Case], not_run: usize) -> Tally {
    let started = Instant::now();
    let site = Arc::new(site);
    let version = site.version().await;
    let outcomes = play_all(cases, AT_ONCE_ON_A_REAL_SERVER, |_| {
        std::future::ready(Arc::clone(&site))
    })
    .await;
    site.remove_leavings().await;
    Tally::of(
        format!("a real server, {version}, at {}", site.address),
        outcomes,
        not_run,
        started,
    )
}

/// Plays the cases, a bounded number at once, each on the site that `site` gives it.
async fn play_all<F>(
    cases: &[&'static Case],
    at_once: usize,
    site: impl Fn(usize) -> F,
) -> Vec<(&'static str, bool)>
where
    F: Future<Output = Arc<Site>>,
{
    let numbered = cases.iter().copied().enumerate();
    let played = numbered.map(|(number, case)| {
        let site = site(number);
        async move { (case.name, play(case, number, site.await).await) }
    });
    futures_util::stream::iter(played)
        .buffer_unordered(at_once)
        .collect()
        .await
}

/// Whether the belief held. The case runs in a task of its own, so that its panic ends nothing else.
async fn play(case: &'static Case, number: usize, site: Arc<Site>) -> bool {
    let subject = Arc::new(Subject::new(site, number).await);
    let held = tokio::spawn((case.play)(Arc::clone(&subject)))
        .await
        .is_ok();
    subject.remove().await;
    if !held {
        eprintln!("    … in {}, on {}\n", case.name, subject.site.address);
    }
    held
}

impl Tally {
    fn of(
        server: String,
        outcomes: Vec<(&'static str, bool)>,
        not_run: usize,
        started: Instant,
    ) -> Self {
        let failed: Vec<_> = outcomes
            .iter()
            .filter(|(_, held)| !held)
            .map(|(name, _)| *name)
            .collect();
        let held = outcomes.len() - failed.len();
        Self {
            server,
            held,
            failed,
            not_run,
            seconds: started.elapsed().as_secs_f32(),
        }
    }
}

fn report(tally: &Tally) {
    let Tally {
        server,
        held,
        failed,
        not_run,
        seconds,
    } = tally;
    for name in failed {
        println!("DOES NOT HOLD  {name}  (on {server})");
    }
    let not_run = match not_run {
        0 => String::new(),
        not_run => format!(", {not_run} were not run: they need the test server's own switches"),
    };
    println!(
        "{server}: {held} beliefs held, {} did not{not_run} ({seconds:.1} s)",
        failed.len()
    );
}
