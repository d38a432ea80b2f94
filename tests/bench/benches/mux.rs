//! Unary calls between two multiplexers without sockets, bytes and tasks: what the state machines take.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use picom_bench::clock::now;
use picom_codec::{Body, Code, Method};
use picom_transport::ConnectionConfig;
use picom_transport::proto::{Event, Identity, Key, Mux, Opening, Received, Role};
use std::time::{Duration, Instant};

struct Pair {
    client: Mux,
    server: Mux,
    client_sent: u64,
    server_sent: u64,
    method: Method,
    at: Instant,
}

impl Pair {
    fn new() -> Self {
        let at = now();
        let mux = |role, config| Mux::new(role, config, Identity::default(), false, at);
        let mut pair = Pair {
            client: mux(Role::Client, ConnectionConfig::default()),
            server: mux(Role::Server, ConnectionConfig::for_server()),
            client_sent: 0,
            server_sent: 0,
            method: Method::new("add").expect("a name"),
            at,
        };
        pair.exchange();
        pair.exchange();
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
        assert!(pair.client.is_open() && pair.server.is_open());
        pair
    }

    /// All frames of both go over.
    fn exchange(&mut self) {
        pass(&mut self.client, &mut self.server, &mut self.client_sent, self.at);
        pass(&mut self.server, &mut self.client, &mut self.server_sent, self.at);
    }

    /// So many calls there, and so many replies back.
    fn calls(&mut self, count: usize, keys: &mut Vec<Key>) {
        // Calls come one after the other in reality, and rate limits count on it.
        self.at += Duration::from_micros(10);
        keys.clear();
        for _ in 0..count {
            let opening = Opening {
                method: self.method.clone(),
                metadata: None,
                deadline: Some(self.at + Duration::from_secs(30)),
                idempotent: false,
                args: Body::copy_from_slice(&[0x92, 0x02, 0x05]),
                ends: true,
            };
            keys.push(self.client.open(opening).expect("a slot"));
        }
        pass(&mut self.client, &mut self.server, &mut self.client_sent, self.at);
        while let Some(event) = self.server.poll_event() {
            if let Event::Opened(key) = event {
                let opening = self.server.accept(key).expect("it was opened");
                self.server
                    .finish(key, Some(opening.args))
                    .expect("it takes a reply");
                self.server.release_send(key);
                self.server.release_recv(key);
            }
        }
        pass(&mut self.server, &mut self.client, &mut self.server_sent, self.at);
        while self.client.poll_event().is_some() {}
        for &key in &*keys {
            assert!(
                matches!(self.client.read(key), Received::Delivery { .. }),
                "a reply"
            );
            assert!(
                matches!(self.client.read(key), Received::End),
                "and nothing behind it"
            );
            self.client.release_send(key);
            self.client.release_recv(key);
        }
    }
}

fn pass(from: &mut Mux, to: &mut Mux, sent: &mut u64, at: Instant) {
    while let Some(frame) = from.poll_frame(at) {
        *sent += 1;
        from.frame_staged(*sent);
        to.handle_frame(frame, at);
    }
    from.handle_written(*sent, at);
}

fn unary(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unary calls between two multiplexers");
    for count in [1, 64, 256] {
        let (mut pair, mut keys) = (Pair::new(), Vec::new());
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} at a time"), |bencher| {
            bencher.iter(|| pair.calls(count, &mut keys));
        });
    }
    group.finish();
}

fn dropped(criterion: &mut Criterion) {
    let mut pair = Pair::new();
    criterion.bench_function("a call that is dropped before it is sent", |bencher| {
        bencher.iter(|| {
            let opening = Opening {
                method: pair.method.clone(),
                metadata: None,
                deadline: None,
                idempotent: false,
                args: Body::copy_from_slice(&[0x07]),
                ends: true,
            };
            let key = pair.client.open(opening).expect("a slot");
            pair.client.reset(key, Code::CANCELLED);
            pair.client.release_send(key);
            pair.client.release_recv(key);
            while pair.client.poll_event().is_some() {}
        });
    });
}

criterion_group!(benches, unary, dropped);
criterion_main!(benches);
