//! What Linux says of a process under `/proc`. Elsewhere there is nothing, and the figures are missing.

use std::fs;
use std::time::Duration;

/// The processor time of a process and its threads until now, the kernel's work for it included.
pub fn cpu(pid: u32) -> Option<Duration> {
    let mut nanos = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}

/// The processor time of the processes that this one has started and waited for, and of those they waited for.
pub fn children_cpu() -> Option<Duration> {
    // The clock of /proc ticks a hundred times a second on every Linux there is. The name, in parentheses, may hold blanks.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let ticks = |at| after.split_whitespace().nth(at)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(13)? + ticks(14)?)))
}

/// The memory of a process that is really there, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    // Counted page by page; the counter in `status` may be off by a few dozen pages.
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let exact = exact.and_then(|text| kilobytes(&text, "Rss:"));
    exact.or_else(|| kilobytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:"))
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

/// The cores this process may run on.
pub fn allowed_cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(cores).unwrap_or_default()
}

fn cores(list: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse::<usize>()) {
            all.extend(first..=last);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_have_ranges_and_gaps() {
        assert_eq!(cores("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cores("7"), [7]);
        assert_eq!(cores(""), [0; 0]);
    }

    #[test]
    fn the_line_with_the_memory_is_found_among_others() {
        assert_eq!(kilobytes("Name: x\nRss:     12 kB\n", "Rss:"), Some(12 * 1024));
        assert_eq!(kilobytes("Name: x\n", "Rss:"), None);
    }
}
