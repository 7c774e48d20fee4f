//! Several machines and a client of the API change the same files at random moments: every content that was accepted is
//! somewhere at the end.

use std::collections::BTreeSet;

use super::*;
use crate::api::Part;

const FILES: [&str; 3] = ["a", "b", "c"];

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// What is at `name` now, as somebody sees it who opens it.
async fn opened(api: &Api, name: &str) -> Option<Base> {
    let info = api.info(&place(name).uri()).await.ok()?;
    Some(Base {
        file: info.id,
        entity: Entity {
            id: info.entity,
            size_bytes: info.size_bytes,
        },
        visible_bytes: 0,
    })
}

/// Every content of every version of every file.
async fn all(drive: &Drive) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    for name in drive.names() {
        let uri = place(&name).uri();
        let (_, versions) = drive.api.history(&uri).await.unwrap();
        let entities = versions.iter().map(|version| &version.entity);
        for version in entities.filter(|version| version.size_bytes > 0) {
            let urls = drive
                .api
                .urls(std::slice::from_ref(&uri), Some(&version.id));
            let url = urls.await.unwrap().urls[0].clone().unwrap();
            let mut content = drive
                .api
                .content(&url, 0..version.size_bytes, version.size_bytes)
                .await
                .unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = content.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            all.insert(bytes);
        }
    }
    all
}

#[tokio::test]
async fn nothing_is_lost_between_two_machines_and_a_client_of_the_api() {
    let seed = getrandom::u64().unwrap();
    let mut dice = Dice(seed);
    let mut here = Drive::new();
    here.options.overwrite = Overwrite::Version;
    here.options.delay = Duration::from_millis(1);
    here.server.set_retention(true, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let machines = [here.run(), {
        let options = staging::Options {
            dir: elsewhere.path().to_owned(),
            drive: "drive".into(),
            local_only: Default::default(),
        };
        let (staging, found) = Staging::open(options).unwrap();
        let complete: Complete = Arc::new(|_| async { Ok(()) }.boxed());
        let options = Options {
            host: "laptop".into(),
            ..here.options.clone()
        };
        let (uploader, news) = Uploader::new(
            Api::of_test_server(&here.server, Duration::from_secs(5)),
            Arc::clone(&staging),
            complete,
            options,
        );
        Run {
            staging,
            uploader,
            news,
            found,
            state_dir: elsewhere.path().to_owned(),
        }
    }];
    let mut accepted = BTreeSet::new();
    for round in 0..150 {
        let name = FILES[dice.below(FILES.len() as u64) as usize];
        let content = format!("{round} {seed}").into_bytes();
        let base = opened(&here.api, name).await;
        match dice.below(3) {
            2 => {
                let previous = base.as_ref().map(|base| &base.entity.id);
                let body = Part::from(bytes::Bytes::from(content.clone()));
                let uri = place(name).uri();
                let put = here.api.put_content(&uri, previous, body);
                // Without a base it would replace what came meanwhile, as nobody should.
                if base.is_none() || put.await.is_err() {
                    continue;
                }
            }
            machine => {
                machines[machine as usize].save_over(name, base, &content);
            }
        }
        accepted.insert(content);
        tokio::time::sleep(Duration::from_millis(dice.below(8))).await;
    }
    for machine in &machines {
        machine.drained().await;
    }
    let kept = all(&here).await;
    let lost: Vec<_> = accepted.difference(&kept).collect();
    assert!(lost.is_empty(), "{} lost, seed {seed}", lost.len());
    here.is_tidy();
}
