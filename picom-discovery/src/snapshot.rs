//! All instances of a service at one moment, and how sure we are of them. How snapshots travel is in `watch.rs`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::DiscoveryError;
use crate::instance::Instance;
use crate::name::ServiceName;

/// How much a snapshot is worth.
#[derive(Debug, Clone)]
pub enum Freshness {
    /// No answer has come yet: the empty set means nothing.
    Pending {
        /// Why not, if something went wrong already.
        error: Option<Arc<DiscoveryError>>,
    },
    /// The source's last word, and it is being listened to.
    Live,
    /// The last known set; the source cannot be asked at present.
    Stale {
        /// Since when.
        since: Instant,
        /// What went wrong first.
        error: Arc<DiscoveryError>,
    },
}

/// All instances of a service at one moment, whatever their health.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The service.
    pub service: ServiceName,
    /// Every instance, sorted by node and id, each pair once.
    pub instances: Vec<Arc<Instance>>,
    /// How much this is worth.
    pub freshness: Freshness,
    /// Counts the snapshots one watch has published, from 0.
    pub revision: u64,
}

/// What differs between two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Instances only the new one has.
    pub added: Vec<Arc<Instance>>,
    /// Instances both have, in their new form, where anything about them changed.
    pub changed: Vec<Arc<Instance>>,
    /// Instances only the old one has.
    pub removed: Vec<Arc<Instance>>,
}

impl Snapshot {
    /// The snapshot before any answer.
    pub fn pending(service: ServiceName) -> Self {
        Self {
            service,
            instances: Vec::new(),
            freshness: Freshness::Pending { error: None },
            revision: 0,
        }
    }

    /// A live snapshot of these instances: sorted, and of two with one key the last is kept.
    pub fn live(service: ServiceName, instances: impl IntoIterator<Item = Instance>) -> Self {
        let instances = normalized(instances.into_iter().map(Arc::new).collect());
        Self {
            service,
            instances,
            freshness: Freshness::Live,
            revision: 0,
        }
    }

    /// Whether an answer has come, ever.
    pub fn is_ready(&self) -> bool {
        !matches!(self.freshness, Freshness::Pending { .. })
    }

    /// The instances new calls may go to, in the order of the snapshot.
    ///
    /// Where several share one `host:port`, only the newest counts (by [`Instance::created`]; a passing one before
    /// others of the same age), because it is the process that has the port now. If that one does not pass, the
    /// address is not used at all: what an older, crashed registration still says of it is no longer true.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let mut newest: HashMap<(&str, u16), &Arc<Instance>> = HashMap::with_capacity(self.instances.len());
        for instance in &self.instances {
            newest
                .entry((&instance.host, instance.port))
                .and_modify(|known| {
                    let rank = |one: &Instance| (one.created, one.is_usable());
                    if rank(instance) > rank(known) {
                        *known = instance;
                    }
                })
                .or_insert(instance);
        }
        self.instances.iter().filter(move |instance| {
            instance.is_usable()
                && newest
                    .get(&(&*instance.host, instance.port))
                    .is_some_and(|winner| Arc::ptr_eq(winner, instance))
        })
    }

    /// What has to be done to get from `old` to `new`. Both must be sorted, as published snapshots are.
    ///
    /// Instances that are the same allocation are not compared: a source reuses those that did not change.
    pub fn diff(old: &Snapshot, new: &Snapshot) -> Diff {
        let mut diff = Diff::default();
        let (mut before, mut after) = (old.instances.iter().peekable(), new.instances.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return diff,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) if Arc::ptr_eq(one, other) => Ordering::Equal,
                (Some(one), Some(other)) => one.cmp_key(other),
            };
            match order {
                Ordering::Less => diff.removed.extend(before.next().cloned()),
                Ordering::Greater => diff.added.extend(after.next().cloned()),
                Ordering::Equal => {
                    if let (Some(one), Some(other)) = (before.next(), after.next())
                        && !Arc::ptr_eq(one, other)
                        && one != other
                    {
                        diff.changed.push(other.clone());
                    }
                }
            }
        }
    }
}

impl Diff {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Freshness {
    /// Whether the source is being listened to.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }
}

/// Sorted by key; of two instances with one key the last of the list is kept.
pub(crate) fn normalized(mut instances: Vec<Arc<Instance>>) -> Vec<Arc<Instance>> {
    // Reversed first: the stable sort then puts the last of equals in front, and dedup keeps the first.
    instances.reverse();
    instances.sort_by(|one, other| one.cmp_key(other));
    instances.dedup_by(|later, first| later.cmp_key(first) == Ordering::Equal);
    instances
}

/// `new` with every instance that is equal to its predecessor replaced by that, and whether nothing changed at all.
/// Both must be normalized.
pub(crate) fn reuse(old: &[Arc<Instance>], mut new: Vec<Arc<Instance>>) -> (Vec<Arc<Instance>>, bool) {
    let mut same = old.len() == new.len();
    let mut before = old.iter().peekable();
    for instance in &mut new {
        while before
            .next_if(|known| known.cmp_key(instance) == Ordering::Less)
            .is_some()
        {}
        // A source that keeps what did not change hands over the very same allocations.
        match before.next_if(|known| Arc::ptr_eq(known, instance) || **known == *instance) {
            Some(known) => *instance = known.clone(),
            None => same = false,
        }
    }
    (new, same)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::instance::Health;

    fn name() -> ServiceName {
        ServiceName::new("s").unwrap()
    }

    fn instance(id: &str, port: u16) -> Instance {
        Instance {
            id: id.into(),
            ..Instance::at(name(), "h", port)
        }
    }

    fn ids(snapshot: &Snapshot) -> Vec<String> {
        snapshot.usable().map(|one| one.id.to_string()).collect()
    }

    #[test]
    fn instances_are_sorted_by_node_then_id_and_the_last_of_a_key_counts() {
        let mut other_node = instance("a", 1);
        other_node.node = "aaa".into();
        let snapshot = Snapshot::live(
            name(),
            [instance("b", 1), instance("a", 2), other_node, instance("a", 3)],
        );
        let seen: Vec<_> = snapshot
            .instances
            .iter()
            .map(|one| (&*one.node, &*one.id, one.port))
            .collect();
        assert_eq!(seen, [("aaa", "a", 1), ("local", "a", 3), ("local", "b", 1)]);
    }

    #[test]
    fn of_two_instances_at_one_address_the_newest_counts() {
        let old = Instance {
            created: 5,
            ..instance("old", 80)
        };
        let new = Instance {
            created: 9,
            ..instance("new", 80)
        };
        assert_eq!(
            ids(&Snapshot::live(
                name(),
                [old.clone(), new.clone(), instance("else", 81)]
            )),
            ["else", "new"]
        );
        let new = Instance {
            health: Health::Critical,
            ..new
        };
        assert_eq!(
            ids(&Snapshot::live(name(), [old, new])),
            [""; 0],
            "the port's owner now does not pass"
        );
    }

    #[test]
    fn of_two_instances_of_one_age_at_one_address_the_passing_one_counts() {
        let failing = Instance {
            health: Health::Critical,
            ..instance("a", 80)
        };
        assert_eq!(
            ids(&Snapshot::live(
                name(),
                [failing, instance("b", 80), instance("c", 80)]
            )),
            ["b"]
        );
    }

    #[test]
    fn an_instance_that_is_equal_keeps_its_allocation() {
        let old = Snapshot::live(name(), [instance("a", 1), instance("b", 2)]);
        let fresh = Snapshot::live(name(), [instance("a", 1), instance("b", 3), instance("c", 4)]);
        let (reused, same) = reuse(&old.instances, fresh.instances.clone());
        assert!(!same);
        assert!(Arc::ptr_eq(&reused[0], &old.instances[0]));
        assert_eq!(reused, fresh.instances);
        let again = Snapshot::live(name(), [instance("b", 2), instance("a", 1)]);
        let (reused, same) = reuse(&old.instances, again.instances);
        assert!(
            same && reused
                .iter()
                .zip(&old.instances)
                .all(|(one, other)| Arc::ptr_eq(one, other))
        );
    }

    proptest! {
        #[test]
        fn applying_a_diff_to_the_old_set_gives_the_new_one(
            old in proptest::collection::vec((0u8..12, 1u16..4), 0..12),
            new in proptest::collection::vec((0u8..12, 1u16..4), 0..12),
        ) {
            let make = |list: &[(u8, u16)]| {
                Snapshot::live(name(), list.iter().map(|(id, port)| instance(&format!("{id:02}"), *port)))
            };
            let (old, new) = (make(&old), make(&new));
            let (reused, same) = reuse(&old.instances, new.instances.clone());
            prop_assert_eq!(&reused, &new.instances);
            prop_assert_eq!(same, old.instances == new.instances);
            let diff = Snapshot::diff(&old, &new);
            prop_assert_eq!(same, diff.is_empty());
            let gone = |one: &Arc<Instance>| {
                diff.removed.iter().chain(&diff.changed).any(|other| other.key() == one.key())
            };
            let mut result: Vec<_> = old.instances.iter().filter(|one| !gone(one)).cloned().collect();
            result.extend(diff.added.iter().chain(&diff.changed).cloned());
            prop_assert_eq!(normalized(result), new.instances);
        }
    }
}
