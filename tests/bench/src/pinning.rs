//! On which cores the processes of a run stay.

use std::env;
use std::path::PathBuf;

use crate::proc_fs::allowed_cores;

/// A core for the server and one for the client, if that can be.
#[derive(Clone, Debug)]
pub struct Pinning {
    taskset: Option<PathBuf>,
    server: usize,
    client: usize,
    /// What a reader of the figures must know.
    pub warning: Option<String>,
}

impl Pinning {
    /// Takes the first and the last of the cores this process may use: on machines whose cores come in pairs these are
    /// different ones.
    pub fn find() -> Self {
        Self::among(&allowed_cores(), on_path("taskset"))
    }

    fn among(cores: &[usize], taskset: Option<PathBuf>) -> Self {
        let (first, last) = (cores.first().copied(), cores.last().copied());
        let warning = match (&taskset, cores.len()) {
            (None, _) => {
                Some("taskset (of util-linux) is not installed: NOTHING IS PINNED, the figures wander")
            }
            (_, 0) => Some("the cores of this system are not known: NOTHING IS PINNED, the figures wander"),
            (_, 1) => Some("there is ONE CORE for server and client together"),
            _ => None,
        };
        Pinning {
            taskset: taskset.filter(|_| first.is_some()),
            server: first.unwrap_or(0),
            client: last.unwrap_or(0),
            warning: warning.map(str::to_owned),
        }
    }

    /// The words before a server's command line.
    pub fn server(&self) -> Vec<String> {
        self.words(self.server)
    }

    /// The words before a client's command line.
    pub fn client(&self) -> Vec<String> {
        self.words(self.client)
    }

    fn words(&self, core: usize) -> Vec<String> {
        let words = |taskset: &PathBuf| {
            let taskset = taskset.to_string_lossy().into_owned();
            vec![taskset, "-c".to_owned(), core.to_string()]
        };
        self.taskset.as_ref().map(words).unwrap_or_default()
    }

    /// For the report: "server on core 0, client on core 1".
    pub fn describe(&self) -> String {
        match &self.taskset {
            Some(_) => format!("server on core {}, client on core {}", self.server, self.client),
            None => "nothing pinned".to_owned(),
        }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_client_get_a_core_each() {
        let pinning = Pinning::among(&[2, 3, 5], Some("/bin/taskset".into()));
        assert_eq!(pinning.server(), ["/bin/taskset", "-c", "2"]);
        assert_eq!(pinning.client(), ["/bin/taskset", "-c", "5"]);
        assert_eq!(pinning.warning, None);
    }

    #[test]
    fn what_cannot_be_pinned_runs_unpinned_and_says_so() {
        for (cores, taskset) in [(&[0, 1][..], None), (&[][..], Some("/bin/taskset".into()))] {
            let pinning = Pinning::among(cores, taskset);
            assert!(pinning.server().is_empty());
            assert!(pinning.warning.unwrap().contains("NOTHING IS PINNED"));
        }
        assert!(
            Pinning::among(&[0], Some("/bin/taskset".into()))
                .warning
                .is_some()
        );
    }
}
