//! The one who breaks things.

use crate::dice::Dice;
use crate::world::{Instance, Stage};
use std::time::Duration;

/// What may be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All connections to an instance are cut.
    Cut,
    /// An instance refuses new connections for a while.
    Refuse,
    /// New connections to an instance hang for a while.
    Silence,
    /// An instance is ended in order and another one begins.
    Restart,
    /// An instance vanishes without a word, connections, registration and all.
    Kill,
    /// The registry cannot be asked for a while.
    Registry,
    /// An instance fails its check for a while.
    Check,
}

const ALL: [Fault; 7] = [
    Fault::Cut,
    Fault::Refuse,
    Fault::Silence,
    Fault::Restart,
    Fault::Kill,
    Fault::Registry,
    Fault::Check,
];

/// Breaks something every now and then, and mends it, until it is aborted. `faults` may name fewer kinds.
pub(crate) async fn chaos(stage: Stage, mut dice: Dice, faults: Option<&'static [Fault]>, pause: Duration) {
    let faults = faults.unwrap_or(&ALL);
    loop {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(Duration::from_millis(dice.below(millis) + 1)).await;
        let fault = faults[dice.below(faults.len() as u64) as usize];
        let Some(instance) = stage.pick(&mut dice) else {
            continue;
        };
        let while_broken = Duration::from_millis(dice.below(400) + 1);
        let stage = stage.clone();
        // Things may break on top of each other.
        tokio::spawn(async move { apply(&stage, &instance, fault, while_broken).await });
    }
}

async fn apply(stage: &Stage, instance: &Instance, fault: Fault, while_broken: Duration) {
    let (network, registry, authority) = (
        stage.world.network(),
        stage.world.registry(),
        instance.authority.as_str(),
    );
    match fault {
        Fault::Cut => network.cut(authority),
        Fault::Refuse => {
            network.refuse(authority);
            network.cut(authority);
            tokio::time::sleep(while_broken).await;
            network.heal(authority);
        }
        Fault::Silence => {
            network.silence(authority);
            network.cut(authority);
            tokio::time::sleep(while_broken).await;
            network.heal(authority);
        }
        Fault::Restart => {
            stage.start().await;
            stage.retire(instance);
            instance.server.end().await;
        }
        Fault::Kill => {
            stage.start().await;
            stage.retire(instance);
            network.refuse(authority);
            network.cut(authority);
            // Its heartbeats are missed: the registry drops it a little later.
            tokio::time::sleep(while_broken).await;
            registry.remove(&stage.service, &instance.id);
            instance.server.end().await;
        }
        Fault::Registry => {
            registry.fail_unavailable();
            tokio::time::sleep(while_broken).await;
            registry.recover();
        }
        Fault::Check => {
            registry.set_health(&stage.service, &instance.id, picom_discovery::Health::Critical);
            tokio::time::sleep(while_broken).await;
            registry.set_health(&stage.service, &instance.id, picom_discovery::Health::Passing);
        }
    }
}
