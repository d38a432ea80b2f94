//! The catalog: nodes, services and checks, each with the index of its last change, and the index of every name. This is
//! what reads see. It is pure data; the agent's own view of what it announces lives in `state`, and JSON in `views`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::definition::{ServiceDefinition, Status};

/// What is known about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) datacenter: Arc<str>,
    pub(crate) tagged: Option<BTreeMap<String, String>>,
    pub(crate) meta: Option<BTreeMap<String, String>>,
}

/// What is known about a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) notes: String,
    pub(crate) output: String,
    /// Empty for a check of the node.
    pub(crate) service_id: String,
    pub(crate) service_name: String,
    pub(crate) service_tags: Vec<String>,
    /// `ttl`, `maintenance` or empty.
    pub(crate) kind: &'static str,
}

/// A thing with the indexes of its creation and its last change. Shared, not copied, with answers in the making, and
/// replaced as a whole by a change: two equal pointers mean that nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<T> {
    pub(crate) content: T,
    pub(crate) created: u64,
    pub(crate) modified: u64,
}

/// One instance of a service with its node and the checks that judge it.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) node: Arc<Record<Node>>,
    pub(crate) service: Arc<Record<ServiceDefinition>>,
    /// The node's own checks first, then the service's, each by id.
    pub(crate) checks: Vec<Arc<Record<Check>>>,
}

impl Instance {
    /// Whether both are the same records, that is: nothing about the instance changed.
    pub(crate) fn is_same(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
            && Arc::ptr_eq(&self.service, &other.service)
            && self.checks.len() == other.checks.len()
            && self
                .checks
                .iter()
                .zip(&other.checks)
                .all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

#[derive(Debug)]
struct NodeEntry {
    record: Arc<Record<Node>>,
    services: BTreeMap<String, ServiceEntry>,
    /// Checks of the node itself.
    checks: BTreeMap<String, Arc<Record<Check>>>,
    /// Which service each check belongs to; the empty id is the node. Check ids are unique per node.
    owners: HashMap<String, String>,
}

#[derive(Debug)]
struct ServiceEntry {
    record: Arc<Record<ServiceDefinition>>,
    checks: BTreeMap<String, Arc<Record<Check>>>,
}

#[derive(Debug, Default)]
struct NameEntry {
    /// Last change of any instance, of their checks, of their nodes.
    index: u64,
    /// Last change of the instances alone.
    services: u64,
    instances: BTreeSet<(String, String)>,
}

/// The index tables that reads of more than one name use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Nodes,
    Services,
    Checks,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Index of the last committed change: the one logical clock.
    clock: u64,
    /// Whether the change being made has changed anything yet.
    changed: bool,
    nodes: BTreeMap<String, NodeEntry>,
    names: HashMap<String, NameEntry>,
    last_extinction: Option<u64>,
    tables: [u64; 3],
    era: u32,
    revision: u64,
}

impl Catalog {
    /// An empty catalog whose next change gets the index after `clock`.
    pub(crate) fn new(clock: u64) -> Catalog {
        Catalog {
            clock,
            ..Catalog::default()
        }
    }

    /// Makes one change: whatever `change` does gets one and the same index. True if anything changed; otherwise no
    /// index is used up.
    pub(crate) fn commit(&mut self, change: impl FnOnce(&mut Catalog)) -> bool {
        self.changed = false;
        change(self);
        if self.changed {
            self.clock = self.clock.saturating_add(1);
            self.revision = self.revision.wrapping_add(1);
        }
        self.changed
    }

    /// Counts changes; unlike the clock it never goes back.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Index of the last change of a table, at least 1.
    pub(crate) fn table(&self, table: Table) -> u64 {
        self.tables[table as usize].max(1)
    }

    /// Changes whenever indexes were given anew, so that they cannot be compared with older ones.
    pub(crate) fn era(&self) -> u32 {
        self.era
    }

    /// Adds or changes a node.
    pub(crate) fn put_node(&mut self, node: Node) {
        let index = self.next();
        let name = node.name.clone();
        match self.nodes.get_mut(&name) {
            Some(entry) if entry.record.content == node => return,
            Some(entry) => {
                let created = entry.record.created;
                entry.record = Arc::new(Record {
                    content: node,
                    created,
                    modified: index,
                });
            }
            None => {
                let record = Arc::new(Record {
                    content: node,
                    created: index,
                    modified: index,
                });
                self.nodes.insert(
                    name.clone(),
                    NodeEntry {
                        record,
                        services: BTreeMap::new(),
                        checks: BTreeMap::new(),
                        owners: HashMap::new(),
                    },
                );
            }
        }
        self.touch(Table::Nodes);
        self.touch_all_names_of(&name);
    }

    /// Adds or changes a service of a node; nothing happens if there is no such node.
    pub(crate) fn put_service(&mut self, node: &str, service: ServiceDefinition) {
        let index = self.next();
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        let key = (node.to_owned(), service.id.clone());
        let name = service.name.clone();
        match entry.services.get_mut(&service.id) {
            Some(known) if known.record.content == service => return,
            Some(known) => {
                let created = known.record.created;
                let before = std::mem::replace(
                    &mut known.record,
                    Arc::new(Record {
                        content: service,
                        created,
                        modified: index,
                    }),
                );
                // Consul's own flaw, kept on purpose: an id that moves to another name leaves the old name's index as
                // it was, so watchers of the old name are not woken.
                if before.content.name != name
                    && let Some(old) = self.names.get_mut(&before.content.name)
                {
                    old.instances.remove(&key);
                    if old.instances.is_empty() {
                        self.names.remove(&before.content.name);
                    }
                }
            }
            None => {
                let record = Arc::new(Record {
                    content: service,
                    created: index,
                    modified: index,
                });
                entry.services.insert(
                    key.1.clone(),
                    ServiceEntry {
                        record,
                        checks: BTreeMap::new(),
                    },
                );
            }
        }
        let entry = self.names.entry(name).or_default();
        entry.instances.insert(key);
        entry.index = index;
        entry.services = index;
        self.touch(Table::Services);
    }

    /// Adds or changes a check; it needs its node, and its service if it has one. The name and the tags of the service
    /// are the catalog's, as they are now.
    pub(crate) fn put_check(&mut self, node: &str, mut check: Check) {
        let index = self.next();
        let owner = check.service_id.clone();
        let Some(entry) = self.nodes.get(node) else {
            return;
        };
        if !owner.is_empty() {
            let Some(service) = entry.services.get(&owner) else {
                return;
            };
            check.service_name.clone_from(&service.record.content.name);
            check.service_tags.clone_from(&service.record.content.tags);
        }
        if entry.owners.get(&check.id).is_some_and(|before| *before != owner) {
            self.remove_check(node, &check.id);
        }
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        let checks = match entry.services.get_mut(&owner) {
            Some(service) => &mut service.checks,
            None => &mut entry.checks,
        };
        let created = match checks.get(&check.id) {
            Some(known) if known.content == check => return,
            Some(known) => known.created,
            None => index,
        };
        entry.owners.insert(check.id.clone(), owner.clone());
        let record = Record {
            content: check,
            created,
            modified: index,
        };
        checks.insert(record.content.id.clone(), Arc::new(record));
        self.touch_check(node, &owner);
    }

    /// Removes a check, if it is there.
    pub(crate) fn remove_check(&mut self, node: &str, id: &str) {
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(owner) = entry.owners.remove(id) else {
            return;
        };
        match entry.services.get_mut(&owner) {
            Some(service) => drop(service.checks.remove(id)),
            None => drop(entry.checks.remove(id)),
        }
        self.touch_check(node, &owner);
    }

    /// Removes a service and its checks, if it is there.
    pub(crate) fn remove_service(&mut self, node: &str, id: &str) {
        let index = self.next();
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(service) = entry.services.remove(id) else {
            return;
        };
        for check in service.checks.keys() {
            entry.owners.remove(check);
        }
        let had_checks = !service.checks.is_empty();
        let name = &service.record.content.name;
        if let Some(known) = self.names.get_mut(name) {
            known.instances.remove(&(node.to_owned(), id.to_owned()));
            known.index = index;
            known.services = index;
            if known.instances.is_empty() {
                self.names.remove(name);
                self.last_extinction = Some(index);
            }
        }
        self.touch(Table::Services);
        if had_checks {
            self.touch(Table::Checks);
        }
    }

    /// Removes a node with all it has, if it is there.
    pub(crate) fn remove_node(&mut self, node: &str) {
        let Some(entry) = self.nodes.get(node) else { return };
        let services: Vec<String> = entry.services.keys().cloned().collect();
        for id in services {
            self.remove_service(node, &id);
        }
        self.nodes.remove(node);
        self.touch(Table::Nodes);
        self.touch(Table::Checks);
    }

    /// The index of a name. Without instances it is that of the last extinction of any name; if there was none yet, of
    /// the last change of anything.
    pub(crate) fn name_index(&self, name: &str) -> u64 {
        match self.names.get(name) {
            Some(entry) => entry.index,
            None => self.absent_index(),
        }
    }

    /// The index of a name that has no instances.
    pub(crate) fn absent_index(&self) -> u64 {
        self.last_extinction.unwrap_or(self.clock).max(1)
    }

    /// What must change before a blocked read of this name is looked at again. Not always the index it answers with.
    pub(crate) fn name_mark(&self, name: &str, services_only: bool) -> u64 {
        match self.names.get(name) {
            Some(entry) if services_only => entry.services,
            Some(entry) => entry.index,
            None => self
                .last_extinction
                .unwrap_or_else(|| self.table(Table::Services)),
        }
    }

    /// The instances of a name, by node, then id.
    pub(crate) fn instances(&self, name: &str) -> Vec<Instance> {
        let Some(entry) = self.names.get(name) else {
            return Vec::new();
        };
        entry
            .instances
            .iter()
            .filter_map(|(node, id)| self.instance(node, id))
            .collect()
    }

    fn instance(&self, node: &str, id: &str) -> Option<Instance> {
        let node = self.nodes.get(node)?;
        let service = node.services.get(id)?;
        Some(Instance {
            node: node.record.clone(),
            service: service.record.clone(),
            checks: node
                .checks
                .values()
                .chain(service.checks.values())
                .cloned()
                .collect(),
        })
    }

    /// Every name with the tags its instances have, in the order they were seen.
    pub(crate) fn tags_by_name(&self) -> BTreeMap<String, Vec<String>> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for service in self.nodes.values().flat_map(|node| node.services.values()) {
            let service = &service.record.content;
            let tags = names.entry(service.name.clone()).or_default();
            for tag in &service.tags {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
        names
    }

    /// All nodes, by name.
    pub(crate) fn nodes(&self) -> Vec<Arc<Record<Node>>> {
        self.nodes.values().map(|node| node.record.clone()).collect()
    }

    /// All checks, by node; a node's own first, then by service and id.
    pub(crate) fn checks(&self) -> impl Iterator<Item = (&str, &Arc<Record<Check>>)> {
        self.nodes.iter().flat_map(|(name, node)| {
            let of_services = node.services.values().flat_map(|service| service.checks.values());
            node.checks
                .values()
                .chain(of_services)
                .map(|check| (name.as_str(), check))
        })
    }

    /// Ids of the services of a node.
    pub(crate) fn service_ids(&self, node: &str) -> Vec<String> {
        self.nodes
            .get(node)
            .map(|node| node.services.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Ids of all checks of a node.
    pub(crate) fn check_ids(&self, node: &str) -> Vec<String> {
        self.nodes
            .get(node)
            .map(|node| node.owners.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Gives everything one new index, as a restored snapshot of an older cluster does: clients see time run backwards.
    pub(crate) fn renumber(&mut self, index: u64) {
        let index = index.max(1);
        self.clock = index;
        self.era = self.era.wrapping_add(1);
        self.revision = self.revision.wrapping_add(1);
        self.tables = [index; 3];
        self.last_extinction = self.last_extinction.map(|_| index);
        for name in self.names.values_mut() {
            name.index = index;
            name.services = index;
        }
        for node in self.nodes.values_mut() {
            node.record = renumbered(&node.record, index);
            for check in node.checks.values_mut() {
                *check = renumbered(check, index);
            }
            for service in node.services.values_mut() {
                service.record = renumbered(&service.record, index);
                for check in service.checks.values_mut() {
                    *check = renumbered(check, index);
                }
            }
        }
    }

    /// The index of the change being made.
    fn next(&self) -> u64 {
        self.clock.saturating_add(1)
    }

    fn touch(&mut self, table: Table) {
        self.changed = true;
        let next = self.next();
        self.tables[table as usize] = next;
    }

    fn touch_check(&mut self, node: &str, owner: &str) {
        self.touch(Table::Checks);
        if owner.is_empty() {
            self.touch_all_names_of(node);
            return;
        }
        let index = self.next();
        let name = self
            .nodes
            .get(node)
            .and_then(|node| node.services.get(owner))
            .map(|s| &s.record.content.name);
        if let Some(entry) = name.and_then(|name| self.names.get_mut(name)) {
            entry.index = index;
        }
    }

    fn touch_all_names_of(&mut self, node: &str) {
        let index = self.next();
        let Some(node) = self.nodes.get(node) else { return };
        for service in node.services.values() {
            if let Some(entry) = self.names.get_mut(&service.record.content.name) {
                entry.index = index;
            }
        }
    }
}

fn renumbered<T: Clone>(record: &Record<T>, index: u64) -> Arc<Record<T>> {
    Arc::new(Record {
        content: record.content.clone(),
        created: index,
        modified: index,
    })
}
