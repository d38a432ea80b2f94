//! Reads of the catalog: what a read selects, which index it has, and whether a change concerns it. Pure: waiting is
//! done in `respond`.

use std::sync::Arc;

use bytes::Bytes;

use super::catalog::{Catalog, Check, Instance, Node, Record, Table};
use super::definition::Status;
use super::query::Query;
use super::refusal::Refusal;
use super::routes::Read;
use super::views;

/// What a read wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    read: Read,
    tags: Vec<String>,
    node_meta: Vec<(String, String)>,
    passing: bool,
}

/// What a read has seen: enough to write the answer later, and to tell whether anything changed since.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The index the answer carries.
    pub(crate) index: u64,
    /// Changes when the read is worth another look. Not always with the index: that of an absent name may rise without
    /// anything to see.
    mark: u64,
    era: u32,
    view: View,
}

#[derive(Debug)]
enum View {
    Instances(Vec<Instance>),
    Checks(Vec<(String, Arc<Record<Check>>)>),
    Nodes(Vec<Arc<Record<Node>>>),
    /// Ready to send.
    Names(Bytes),
}

impl View {
    fn is_same(&self, other: &View) -> bool {
        match (self, other) {
            (View::Instances(a), View::Instances(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_same(b))
            }
            (View::Checks(a), View::Checks(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
            }
            _ => false,
        }
    }
}

impl Selection {
    /// Reads what the query says about the selection, in the order in which Consul complains.
    pub(crate) fn parse(read: Read, query: &Query) -> Result<Selection, Refusal> {
        match &read {
            Read::Health(name)
            | Read::HealthConnect(name)
            | Read::HealthChecks(name)
            | Read::Service(name)
                if name.is_empty() =>
            {
                return Err(Refusal::new(400, "Missing service name"));
            }
            Read::HealthNode(name) if name.is_empty() => return Err(Refusal::new(400, "Missing node name")),
            Read::HealthState(state) if state.is_empty() => {
                return Err(Refusal::new(400, "Missing check state"));
            }
            _ => {}
        }
        let passing = match query.get("passing") {
            None => false,
            Some("") => true,
            Some(text) => go_bool(text).ok_or_else(|| Refusal::new(400, "Invalid value for ?passing"))?,
        };
        // `filter` is a language of its own. A client must not take an unfiltered answer for a filtered one.
        if query.get("filter").is_some_and(|filter| !filter.is_empty()) && !matches!(read, Read::Services) {
            return Err(Refusal::dev_agent(
                500,
                format_args!("filter expressions are not supported"),
            ));
        }
        let pair = |text: &str| {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        Ok(Selection {
            read,
            tags: query.all("tag").map(str::to_owned).collect(),
            node_meta: query.all("node-meta").map(pair).collect(),
            passing,
        })
    }

    /// Looks at the catalog as it is now.
    pub(crate) fn look(&self, catalog: &Catalog) -> Seen {
        let mark = self.mark(catalog);
        let all_checks = |keep: &dyn Fn(&str, &Check) -> bool| {
            let kept = catalog
                .checks()
                .filter(|(node, check)| keep(node, &check.content));
            let mut kept: Vec<_> = kept
                .map(|(node, check)| (node.to_owned(), check.clone()))
                .collect();
            kept.sort_by(|(a_node, a), (b_node, b)| (a_node, &a.content.id).cmp(&(b_node, &b.content.id)));
            View::Checks(kept)
        };
        let (index, view) = match &self.read {
            Read::Health(name) | Read::Service(name) => (
                catalog.name_index(name),
                View::Instances(self.select(catalog.instances(name))),
            ),
            Read::HealthConnect(name) => {
                let mut instances = self.select(catalog.instances(name));
                instances.retain(|instance| instance.service.content.native);
                let index = if instances.is_empty() {
                    catalog.absent_index()
                } else {
                    catalog.name_index(name)
                };
                (index, View::Instances(instances))
            }
            Read::HealthChecks(name) => (
                catalog.table(Table::Checks),
                all_checks(&|_, check| check.service_name == *name),
            ),
            Read::HealthNode(name) => (catalog.table(Table::Checks), all_checks(&|node, _| node == name)),
            Read::HealthState(state) => {
                let keep = |_: &str, check: &Check| state == "any" || check.status.as_str() == state;
                (catalog.table(Table::Checks), all_checks(&keep))
            }
            Read::Services => {
                let index = catalog.table(Table::Services).max(catalog.table(Table::Nodes));
                (index, View::Names(views::encode(&catalog.tags_by_name())))
            }
            Read::Nodes => (catalog.table(Table::Nodes), View::Nodes(catalog.nodes())),
        };
        Seen {
            index,
            mark,
            era: catalog.era(),
            view,
        }
    }

    /// Looks again, if there is reason to. `before` becomes what is to be seen now, unless the read is one of those
    /// that Consul does not wake for a change that does not concern it: then it stays as it was, index included.
    pub(crate) fn look_again(&self, catalog: &Catalog, before: &mut Seen) {
        // A mark that fell is no reason: that is how watchers of a name sleep through its last instance's move to
        // another name. Unless all indexes fell together.
        if self.mark(catalog) <= before.mark && catalog.era() == before.era {
            return;
        }
        let fresh = self.look(catalog);
        let narrow = !self.tags.is_empty() || matches!(fresh.view, View::Checks(_));
        if narrow && fresh.view.is_same(&before.view) {
            before.mark = fresh.mark;
        } else {
            *before = fresh;
        }
    }

    /// The answer's body.
    pub(crate) fn body(&self, seen: Seen) -> Bytes {
        match seen.view {
            View::Instances(mut instances) => {
                if self.passing {
                    keep_passing(&mut instances);
                }
                match self.read {
                    Read::Service(_) => views::catalog_service(&instances),
                    _ => views::health(&instances),
                }
            }
            View::Checks(checks) => views::checks(&checks),
            View::Nodes(nodes) => views::nodes(&nodes),
            View::Names(body) => body,
        }
    }

    fn mark(&self, catalog: &Catalog) -> u64 {
        match &self.read {
            Read::Health(name) | Read::HealthConnect(name) => catalog.name_mark(name, false),
            // Checks are not part of this answer, so their changes wake nobody.
            Read::Service(name) => catalog.name_mark(name, true),
            Read::HealthChecks(_) | Read::HealthNode(_) | Read::HealthState(_) => {
                catalog.table(Table::Checks)
            }
            Read::Services => catalog.table(Table::Services),
            Read::Nodes => catalog.table(Table::Nodes),
        }
    }

    fn select(&self, mut instances: Vec<Instance>) -> Vec<Instance> {
        instances.retain(|instance| {
            let tags = &instance.service.content.tags;
            let has = |tag: &String| tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
            let meta = instance.node.content.meta.as_ref();
            let meta_is =
                |(key, value): &(String, String)| meta.and_then(|meta| meta.get(key)) == Some(value);
            self.tags.iter().all(has) && self.node_meta.iter().all(meta_is)
        });
        instances
    }
}

/// Drops instances with a check that is not passing, the last one taking each gap, as Consul does: clients must not
/// rely on the order.
fn keep_passing(instances: &mut Vec<Instance>) {
    let mut place = 0;
    while let Some(instance) = instances.get(place) {
        if instance
            .checks
            .iter()
            .all(|check| check.content.status == Status::Passing)
        {
            place += 1;
        } else {
            instances.swap_remove(place);
        }
    }
}

/// The texts Go takes for true and false.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
