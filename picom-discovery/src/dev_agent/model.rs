//! The state against a model: whatever happens in whatever order, what can be read is what was announced, and indexes
//! tell every change of it and nothing else. Tests only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::check_draft::CheckDefinition;
use super::config::DevAgentConfig;
use super::definition::{ServiceDefinition, Status};
use super::state::State;

#[derive(Debug, Clone)]
enum Step {
    Register {
        id: u8,
        name: u8,
        port: i64,
        ttl: u64,
        status: Option<Status>,
        own_check: bool,
        replace: bool,
    },
    Deregister(u8),
    Beat(u8, Status),
    Maintain(u8, bool),
    Wait(u64),
    Leader(bool),
    Forget,
    Renumber(u64),
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Passing),
        Just(Status::Warning),
        Just(Status::Critical)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let register = (
        0..3u8,
        0..2u8,
        1..3i64,
        1..4u64,
        proptest::option::of(status()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(id, name, port, ttl, status, own_check, replace)| Step::Register {
                id,
                name,
                port,
                ttl,
                status,
                own_check,
                replace,
            },
        );
    prop_oneof![
        6 => register,
        2 => (0..3u8).prop_map(Step::Deregister),
        6 => (0..3u8, status()).prop_map(|(id, status)| Step::Beat(id, status)),
        2 => (0..3u8, any::<bool>()).prop_map(|(id, on)| Step::Maintain(id, on)),
        4 => (1..3000u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Leader),
        1 => Just(Step::Forget),
        1 => (1..50u64).prop_map(Step::Renumber),
    ]
}

/// By name, by id: the port, and the status of each check.
type Read = BTreeMap<String, BTreeMap<String, (i64, BTreeMap<String, Status>)>>;

/// What was announced, kept as simply as can be.
#[derive(Default)]
struct Model {
    services: BTreeMap<String, (String, i64)>,
    /// By id: the service, the status, and the TTL if it has one.
    checks: BTreeMap<String, (String, Status, Option<Ttl>)>,
}

/// A span, and when it runs out.
type Ttl = (Duration, Instant);

impl Model {
    fn expire(&mut self, now: Instant) {
        for (_, status, ttl) in self.checks.values_mut() {
            if ttl.is_some_and(|(_, ends)| ends <= now) {
                *status = Status::Critical;
            }
        }
    }

    /// What a read of everything should list.
    fn seen(&self) -> Read {
        let mut names: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (id, (name, port)) in &self.services {
            let checks = self.checks.iter().filter(|(_, (service, ..))| service == id);
            let checks = checks.map(|(id, (_, status, _))| (id.clone(), *status)).collect();
            names
                .entry(name.clone())
                .or_default()
                .insert(id.clone(), (*port, checks));
        }
        names
    }
}

fn seen(state: &State) -> Read {
    let mut names: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for name in state
        .catalog
        .tags_by_name()
        .into_keys()
        .filter(|name| name != "consul")
    {
        for instance in state.catalog.instances(&name) {
            let service = &instance.service.content;
            let checks = instance
                .checks
                .iter()
                .filter(|check| check.content.id != "serfHealth");
            let checks = checks
                .map(|check| (check.content.id.clone(), check.content.status))
                .collect();
            names
                .entry(name.clone())
                .or_default()
                .insert(service.id.clone(), (service.port, checks));
        }
    }
    names
}

fn run(steps: Vec<Step>) {
    let mut now = tokio::time::Instant::now().into_std();
    // Outputs alone must not change anything in the time this takes.
    let config = DevAgentConfig {
        output_interval: Duration::from_secs(1 << 20),
        ..DevAgentConfig::default()
    };
    let mut state = State::new(&config, 1, now);
    let mut model = Model::default();
    let mut leader = true;
    let names = ["n0".to_owned(), "n1".to_owned()];
    for step in steps {
        let before = seen(&state);
        let indexes: Vec<u64> = names.iter().map(|name| state.catalog.name_index(name)).collect();
        let mut indexes_fell = false;
        match &step {
            Step::Register {
                id,
                name,
                port,
                ttl,
                status,
                own_check,
                replace,
            } => {
                let (id, name) = (format!("s{id}"), format!("n{name}"));
                let check_id = if *own_check {
                    format!("own:{id}")
                } else {
                    format!("service:{id}")
                };
                let ttl = Duration::from_secs(*ttl);
                let service = ServiceDefinition {
                    id: id.clone(),
                    name: name.clone(),
                    port: *port,
                    ..ServiceDefinition::default()
                };
                let check = CheckDefinition {
                    id: if *own_check {
                        check_id.clone()
                    } else {
                        String::new()
                    },
                    status: *status,
                    ttl,
                    ..CheckDefinition::default()
                };
                state
                    .register_service(service, vec![check], *replace, 0, now)
                    .expect("it fits");
                if *replace {
                    model
                        .checks
                        .retain(|known, (service, ..)| *service != id || *known == check_id);
                }
                let kept = model.checks.get(&check_id).map(|(_, status, _)| *status);
                let status = kept.or(*status).unwrap_or(Status::Critical);
                model
                    .checks
                    .insert(check_id, (id.clone(), status, Some((ttl, now + ttl))));
                model.services.insert(id, (name, *port));
            }
            Step::Deregister(id) => {
                let id = format!("s{id}");
                state.deregister_service(&id).expect("never refused");
                model.services.remove(&id);
                model.checks.retain(|_, (service, ..)| *service != id);
            }
            Step::Beat(id, status) => {
                let id = format!("service:s{id}");
                let known = state.update_check(&id, *status, "", now).is_ok();
                let check = model.checks.get_mut(&id);
                assert_eq!(known, check.is_some());
                if let Some((_, known, Some((ttl, ends)))) = check {
                    (*known, *ends) = (*status, now + *ttl);
                }
            }
            Step::Maintain(id, on) => {
                let id = format!("s{id}");
                let known = state.service_maintenance(&id, *on, "").is_ok();
                assert_eq!(known, model.services.contains_key(&id));
                let check = format!("_service_maintenance:{id}");
                if known && *on {
                    model.checks.insert(check, (id, Status::Critical, None));
                } else {
                    model.checks.remove(&check);
                }
            }
            Step::Wait(millis) => {
                now += Duration::from_millis(*millis);
                state.advance(now);
                model.expire(now);
                assert!(state.next_timeout().is_none_or(|next| next > now));
            }
            Step::Leader(on) => {
                leader = *on;
                state.set_leader(*on);
            }
            Step::Forget => {
                state.forget(now);
                model = Model::default();
                indexes_fell = true;
            }
            Step::Renumber(to) => {
                state.renumber(*to);
                indexes_fell = true;
                assert_eq!(seen(&state), before);
            }
        }
        let after = seen(&state);
        if leader {
            assert_eq!(after, model.seen(), "{step:?}");
        } else if !indexes_fell {
            assert_eq!(
                after, before,
                "nothing reaches the catalog without a leader: {step:?}"
            );
        }
        for (name, index) in names.iter().zip(indexes) {
            // An id that left for another name is the one change an index does not tell.
            let ids = |read: &Read, of: &dyn Fn(&String) -> bool| -> BTreeSet<String> {
                read.iter()
                    .filter(|(name, _)| of(name))
                    .flat_map(|(_, ids)| ids.keys().cloned())
                    .collect()
            };
            let moved = !ids(&before, &|of| of == name).is_disjoint(&ids(&after, &|of| of != name));
            if indexes_fell || moved {
                continue;
            }
            let now = state.catalog.name_index(name);
            if before.get(name) != after.get(name) {
                assert!(
                    now > index,
                    "{step:?} changed {name} and its index stayed {index}"
                );
            } else if after.contains_key(name) && !matches!(step, Step::Register { .. } | Step::Leader(_)) {
                // Registrations carry more than the model looks at: the name of a check follows the service's.
                assert_eq!(now, index, "{step:?} did not change {name}");
            }
        }
    }
    // Nothing is left behind by those who leave.
    state.set_leader(true);
    for id in 0..3 {
        state
            .deregister_service(&format!("s{id}"))
            .expect("never refused");
    }
    assert_eq!(
        (state.next_timeout(), state.checks().bytes(), seen(&state).len()),
        (None, 0, 0)
    );
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_announced(steps in proptest::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
