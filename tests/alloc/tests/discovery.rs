//! What a watch keeps of answers that say nothing new: nothing. The agent is a thread that answers every question with
//! the same thousand instances.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use picom_alloc::kept;
use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::{Discovery, ServiceName};

const INSTANCES: usize = 1000;

/// Answers before the measurement: what grows with the first of them is there then. With those of the measurement they
/// are fewer than the ten that a name may ask for at once.
const BEFORE: usize = 3;
const MEASURED: usize = 5;

/// An agent at an address; it takes leave to answer from a channel, and says so when it has.
struct Agent {
    address: SocketAddr,
    leave: Sender<()>,
    answered: Receiver<()>,
}

impl Agent {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (leave, leaves) = channel();
        let (answers, answered) = channel();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, &leaves, &answers);
        });
        Self {
            address,
            leave,
            answered,
        }
    }

    /// Lets it answer so many questions, while the watch runs on this thread.
    fn answer(&self, runtime: &tokio::runtime::Runtime, count: usize) {
        for _ in 0..count {
            self.leave.send(()).unwrap();
        }
        let mut left = count;
        runtime.block_on(async {
            while left > 0 {
                left -= self.answered.try_iter().count();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // What was answered has to be read as well, and nothing tells of an answer that is no news.
            tokio::time::sleep(Duration::from_millis(200)).await;
        });
    }
}

fn serve(mut stream: TcpStream, leaves: &Receiver<()>, answers: &Sender<()>) {
    let entries: Vec<String> = (0..INSTANCES)
        .map(|number| {
            format!(
                r#"{{"Node": {{"Node": "n", "Address": "10.0.0.1"}},
                "Service": {{"ID": "svc-{number:04}", "Service": "svc", "Port": {}, "Meta": {{"picom": "1"}}, "CreateIndex": 7}},
                "Checks": [{{"CheckID": "service:svc-{number:04}", "Status": "passing"}}]}}"#,
                1000 + number
            )
        })
        .collect();
    let body = format!("[{}]", entries.join(","));
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = (head + &body).into_bytes();
    let mut chunk = [0; 4096];
    let mut asked = Vec::new();
    // Ends with the watch, which closes the connection.
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        asked.extend_from_slice(&chunk[..read]);
        if !asked.ends_with(b"\r\n\r\n") {
            continue;
        }
        asked.clear();
        if leaves.recv().is_err() || stream.write_all(&answer).is_err() || answers.send(()).is_err() {
            return;
        }
    }
}

#[test]
fn an_answer_without_news_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let agent = Agent::start();
    let config = ConsulConfig::new(agent.address.ip().to_string(), agent.address.port());
    let watch = {
        let _entered = runtime.enter();
        let consul = Consul::new(config).unwrap();
        consul.watch(&ServiceName::new("svc").unwrap())
    };
    agent.answer(&runtime, BEFORE);
    let before = watch.latest();
    assert_eq!((before.instances.len(), before.revision), (INSTANCES, 1));
    let ((), bytes) = kept(|| agent.answer(&runtime, MEASURED));
    assert!(bytes <= 0, "{bytes} bytes are kept of {MEASURED} answers");
    assert_eq!(watch.latest().revision, 1, "they were no news");
}
