//! Who follows which folder, and what is on its way to him (→ api part 1 §13.4–13.5).
//!
//! Events wait for a pause, are merged, and go into a channel that silently takes no more than it holds; for who is away
//! they are stored. Two connections of one client share his channel, and the end of either takes him for gone: that is
//! the server's bug, and here, too. Time is the server's clock; what is due by then happens when anybody asks.
//!
//! `Cloudreve:pkg/filemanager/eventhub/subscriber.go` and `eventhub.go`.

mod merge;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Time;
use crate::drive::{NodeId, UserId};

pub(crate) use merge::{Event, EventKind};

/// Events that wait for their connection; one more is in the hands of each that waits.
const CHANNEL: usize = 16;

/// Number of a connection.
pub(crate) type StreamId = u64;

/// What a subscriber may expect, settled when he subscribes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Length of the pause that lets events go.
    pub(crate) debounce: Duration,
    /// How long he may be away.
    pub(crate) max_age: Duration,
}

/// Somebody who follows a folder.
#[derive(Debug)]
struct Subscriber {
    user: UserId,
    terms: Terms,
    /// None while he is there.
    away_since: Option<Time>,
    /// Wait for a pause.
    buffer: Vec<Event>,
    /// When it is a pause.
    due: Option<Time>,
    channel: VecDeque<Event>,
}

/// An open connection.
#[derive(Debug)]
struct Stream {
    folder: NodeId,
    client: String,
    /// Frames that come before all events.
    frames: VecDeque<String>,
    next_keep_alive: Time,
    /// The client has gone and the server has not noticed.
    is_deaf: bool,
    end: Option<End>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In good order.
    Clean,
    /// By a reset.
    Cut,
}

/// What a connection does next.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(String),
    End(End),
    /// Nothing before this moment, unless something changes.
    Wait(Time),
}

/// How a site sends events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) keep_alive: Duration,
    /// Several events in one frame.
    pub(crate) is_array: bool,
    /// Nothing leaves.
    pub(crate) is_silent: bool,
}

/// All who follow.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: BTreeMap<(NodeId, String), Subscriber>,
    /// Of who is away: by client and user, whatever folder they are of.
    stored: Vec<(String, UserId, Event)>,
    streams: BTreeMap<StreamId, Stream>,
    last_stream: StreamId,
    /// Told when a connection may have something to do.
    pub(crate) changed: watch::Sender<()>,
    /// The client whose request is being handled.
    pub(crate) acting: Option<String>,
    /// Events are lost before they are merged.
    pub(crate) is_lossy: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            subscribers: BTreeMap::new(),
            stored: Vec::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            changed: watch::Sender::new(()),
            acting: None,
            is_lossy: false,
        }
    }
}

/// A frame as the server's framework writes it; without a payload it writes Go's word for nothing.
fn frame(name: &str, data: &str) -> String {
    format!("event:{name}\ndata:{data}\n\n")
}

impl Hub {
    /// A new connection of a client; he is the one who was there before, if he was.
    pub(crate) fn subscribe(
        &mut self,
        folder: NodeId,
        client: &str,
        user: UserId,
        terms: Terms,
        keep_alive: Duration,
        now: Time,
    ) -> StreamId {
        self.settle(now);
        let key = (folder, client.to_owned());
        let greeting = match self.subscribers.get_mut(&key) {
            Some(subscriber) => {
                subscriber.away_since = None;
                let is_his = |(of, by, _): &mut (String, UserId, Event)| {
                    of == client && *by == subscriber.user
                };
                let taken = self.stored.extract_if(.., is_his);
                subscriber.buffer.extend(taken.map(|(.., event)| event));
                if !subscriber.buffer.is_empty() {
                    subscriber.due = Some(now.plus(subscriber.terms.debounce));
                }
                "resumed"
            }
            None => {
                let subscriber = Subscriber {
                    user,
                    terms,
                    away_since: None,
                    buffer: Vec::new(),
                    due: None,
                    channel: VecDeque::new(),
                };
                self.subscribers.insert(key, subscriber);
                "subscribed"
            }
        };
        self.last_stream += 1;
        let stream = Stream {
            folder,
            client: client.to_owned(),
            frames: VecDeque::from([frame(greeting, "<nil>")]),
            next_keep_alive: now.plus(keep_alive),
            is_deaf: false,
            end: None,
        };
        self.streams.insert(self.last_stream, stream);
        self.last_stream
    }

    /// Tells all who follow one of these folders, but not who did it. `event` makes what the follower of a folder hears.
    pub(crate) fn publish(
        &mut self,
        folders: impl IntoIterator<Item = NodeId>,
        event: impl Fn(NodeId) -> Event,
        now: Time,
    ) {
        self.settle(now);
        for folder in folders {
            let acting = self.acting.as_deref();
            let everybody = (folder, String::new())..(folder + 1, String::new());
            for ((_, client), subscriber) in self.subscribers.range_mut(everybody) {
                if Some(client.as_str()) == acting || self.is_lossy {
                    continue;
                }
                subscriber.buffer.push(event(folder));
                subscriber.due = Some(now.plus(subscriber.terms.debounce));
            }
        }
        self.changed.send_replace(());
    }

    /// Lets go what is due.
    fn settle(&mut self, now: Time) {
        let is_due = |subscriber: &Subscriber| subscriber.due.is_some_and(|due| due <= now);
        let due = self.subscribers.iter().filter(|(_, one)| is_due(one));
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        due.iter().for_each(|key| self.flush(key));
        let is_over = |one: &Subscriber| {
            let since = one.away_since;
            since.is_some_and(|since| since.plus(one.terms.max_age) < now)
        };
        let over = self.subscribers.iter().filter(|(_, one)| is_over(one));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            self.subscribers.remove(&key);
            self.stored.retain(|(of, ..)| *of != key.1);
        }
    }

    /// Lets go what a subscriber's events wait for.
    fn flush(&mut self, key: &(NodeId, String)) {
        let readers = self.streams.values();
        let readers = readers.filter(|one| one.folder == key.0 && one.client == key.1);
        let (deaf, awake): (Vec<_>, Vec<_>) = readers.partition(|reader| reader.is_deaf);
        let (deaf, awake) = (deaf.len(), awake.len());
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return;
        };
        subscriber.due = None;
        let events = std::mem::take(&mut subscriber.buffer);
        if subscriber.away_since.is_some() {
            let user = subscriber.user;
            let events = events.into_iter();
            self.stored
                .extend(events.map(|event| (key.1.clone(), user, event)));
            return;
        }
        let waiting = match subscriber.channel.is_empty() {
            true => awake,
            false => 0,
        };
        for (index, event) in merge::merged(events).into_iter().enumerate() {
            // Who reads for nobody takes his turn.
            let is_taken = deaf > 0 && index % (deaf + awake) < deaf;
            if !is_taken && subscriber.channel.len() < CHANNEL + waiting {
                subscriber.channel.push_back(event);
            }
        }
    }

    /// Lets all events go that wait for a pause; only those of `client`, if one is named.
    pub(crate) fn flush_now(&mut self, client: Option<&str>) {
        let keys = self.subscribers.keys();
        let keys: Vec<_> = keys
            .filter(|(_, of)| client.is_none_or(|client| client == of))
            .cloned()
            .collect();
        keys.iter().for_each(|key| self.flush(key));
        self.changed.send_replace(());
    }

    /// What a connection does now.
    pub(crate) fn next(&mut self, id: StreamId, manner: Manner, now: Time) -> Next {
        self.settle(now);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Next::End(End::Cut);
        };
        if let Some(end) = stream.end {
            return Next::End(end);
        }
        let far = now.plus(Duration::from_secs(3600));
        if manner.is_silent {
            return Next::Wait(far);
        }
        if let Some(frame) = stream.frames.pop_front() {
            return Next::Frame(frame);
        }
        let key = (stream.folder, stream.client.clone());
        let subscriber = self.subscribers.get_mut(&key);
        let Some(subscriber) = subscriber else {
            return Next::End(End::Clean);
        };
        if manner.is_array && !subscriber.channel.is_empty() {
            let events: Vec<_> = subscriber.channel.drain(..).collect();
            return Next::Frame(frame("event", &json(&events)));
        }
        if let Some(event) = subscriber.channel.pop_front() {
            return Next::Frame(frame("event", &json(&event)));
        }
        if stream.next_keep_alive <= now {
            // A ticker that nobody read does not tick twice.
            while stream.next_keep_alive <= now {
                stream.next_keep_alive = stream.next_keep_alive.plus(manner.keep_alive);
            }
            return Next::Frame(frame("keep-alive", "<nil>"));
        }
        let due = subscriber.due.unwrap_or(far);
        Next::Wait(due.min(stream.next_keep_alive))
    }

    /// The client has closed a connection; `is_noticed` where the server sees that.
    pub(crate) fn hung_up(&mut self, id: StreamId, is_noticed: bool, now: Time) {
        self.settle(now);
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.end.is_none()
            && !is_noticed
        {
            stream.is_deaf = true;
            return;
        }
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        let key = (stream.folder, stream.client);
        // What waited goes into the channel, while he still counts as there.
        self.flush(&key);
        if let Some(subscriber) = self.subscribers.get_mut(&key) {
            subscriber.away_since = Some(now);
        }
        self.changed.send_replace(());
    }

    /// The server notices the clients that have gone.
    pub(crate) fn notice_hangups(&mut self, now: Time) {
        let deaf = self.streams.iter().filter(|(_, stream)| stream.is_deaf);
        let deaf: Vec<_> = deaf.map(|(id, _)| *id).collect();
        for id in deaf {
            self.hung_up(id, true, now);
        }
    }

    /// Ends all connections.
    pub(crate) fn end_all(&mut self, end: End) {
        for stream in self.streams.values_mut() {
            stream.end = Some(end);
        }
        self.changed.send_replace(());
    }

    /// Sends this to all connections before anything else.
    pub(crate) fn send_all(&mut self, bytes: &str) {
        for stream in self.streams.values_mut() {
            stream.frames.push_back(bytes.to_owned());
        }
        self.changed.send_replace(());
    }

    /// Forgets everybody, as the server does when it starts.
    pub(crate) fn wipe(&mut self) {
        self.subscribers.clear();
        self.stored.clear();
        self.streams.clear();
    }

    /// Connections whose clients are there; of `client`, if one is named.
    pub(crate) fn open_streams(&self, client: Option<&str>) -> usize {
        let streams = self.streams.values();
        streams
            .filter(|stream| !stream.is_deaf && stream.end.is_none())
            .filter(|stream| client.is_none_or(|client| client == stream.client))
            .count()
    }

    /// Clients that are known, there or away: each once for each of their folders.
    pub(crate) fn known_clients(&self) -> Vec<String> {
        let clients = self.subscribers.keys();
        clients.map(|(_, client)| client.clone()).collect()
    }

    /// Events that wait for a pause.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = self.subscribers.values();
        waiting.map(|subscriber| subscriber.buffer.len()).sum()
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
