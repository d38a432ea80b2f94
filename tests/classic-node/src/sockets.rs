//! Which sockets of a process are open, as the kernel tells it (Linux): the programs' own counts may be wrong.

use crate::PATIENCE;
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// The state of one that listens, in the kernel's table.
const LISTENS: &str = "0A";

/// The connections of a process from or to `port`, whatever their state.
///
/// # Panics
///
/// When the kernel's tables cannot be read, so that a count of nothing is not taken for none.
pub fn sockets(pid: u32, port: u16) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the files of a process of ours");
    let held: HashSet<String> = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let end = format!(":{port:04X}");
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let tables = table("tcp") + &table("tcp6");
    assert!(tables.contains("local_address"), "the kernel's table of TCP");
    tables
        .lines()
        .filter(|line| {
            let mut parts = line.split_whitespace().skip(1);
            let (Some(local), Some(remote), Some(state)) = (parts.next(), parts.next(), parts.next()) else {
                return false;
            };
            let held = parts.nth(5).is_some_and(|inode| held.contains(inode));
            held && state != LISTENS && (local.ends_with(&end) || remote.ends_with(&end))
        })
        .count()
}

/// Waits until none of the processes holds a connection from or to `port`.
///
/// # Panics
///
/// When some are left after a minute.
pub async fn no_sockets_between(pids: &[u32], port: u16) {
    let left = || -> Vec<usize> { pids.iter().map(|pid| sockets(*pid, port)).collect() };
    let all_closed = async {
        while left().iter().any(|left| *left > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_closed)
        .await
        .unwrap_or_else(|_| panic!("sockets of {pids:?} at port {port} are left: {:?}", left()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_are_seen_while_they_are_held() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, pid) = (listener.local_addr().unwrap().port(), std::process::id());
        assert_eq!(sockets(pid, port), 0, "one that listens is no connection");
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(sockets(pid, port), 2);
        drop(client);
        assert_eq!(sockets(pid, port), 1, "half closed is held still");
        drop(server);
        assert_eq!(sockets(pid, port), 0);
    }
}
