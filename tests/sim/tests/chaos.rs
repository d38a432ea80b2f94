//! Systems under faults, by seed. `PICOM_SIM_SEEDS` says how many seeds are tried, `PICOM_SIM_SEED` runs a single one again.

use picom_sim::{Fault, Plan, Tally, run};

fn simulate(plan: Plan) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(run(plan))
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    match number("PICOM_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PICOM_SIM_SEEDS").unwrap_or(default),
    }
}

fn sweep(default: u64, plan: impl Fn(u64) -> Plan, also: impl Fn(&Tally) -> Result<(), String>) {
    let (mut replied, mut failed) = (0, 0);
    for seed in seeds(default) {
        let tally = simulate(plan(seed));
        assert!(
            tally.violations.is_empty(),
            "PICOM_SIM_SEED={seed}: {} violations, the first: {:#?}\nerrors: {:#?}",
            tally.violations.len(),
            &tally.violations[..tally.violations.len().min(5)],
            tally.errors
        );
        if let Err(what) = also(&tally) {
            panic!("PICOM_SIM_SEED={seed}: {what}: {tally:#?}");
        }
        replied += tally.replied;
        failed += tally.not_run + tally.perhaps_run;
    }
    println!("{replied} calls answered, {failed} failed honestly");
    assert!(replied > failed, "most calls go through whatever breaks");
}

fn no_call_failed(tally: &Tally) -> Result<(), String> {
    match tally.not_run + tally.perhaps_run {
        0 => Ok(()),
        failed => Err(format!("{failed} calls failed")),
    }
}

#[test]
fn whatever_breaks_no_call_lies_and_every_call_ends_in_time() {
    sweep(40, Plan::new, |_| Ok(()));
}

#[test]
fn restarts_fail_no_call() {
    const RESTARTS: &[Fault] = &[Fault::Restart];
    sweep(
        10,
        |seed| Plan {
            faults: Some(RESTARTS),
            hasty: false,
            ..Plan::new(seed)
        },
        no_call_failed,
    );
}

/// More calls at a time than there are slots: 40 to three instances of four connections with two streams each.
fn crowded(seed: u64) -> Plan {
    Plan {
        callers: 2,
        calls: 160,
        together: 40,
        slots: Some(2),
        ..Plan::new(seed)
    }
}

#[test]
fn calls_that_wait_for_slots_break_no_promise_whatever_breaks() {
    sweep(20, crowded, |_| Ok(()));
}

#[test]
fn restarts_fail_no_call_that_waits_for_a_slot() {
    const RESTARTS: &[Fault] = &[Fault::Restart];
    sweep(
        10,
        |seed| Plan {
            faults: Some(RESTARTS),
            hasty: false,
            ..crowded(seed)
        },
        no_call_failed,
    );
}

#[test]
fn a_registry_that_is_away_fails_no_call() {
    const REGISTRY: &[Fault] = &[Fault::Registry];
    sweep(
        10,
        |seed| Plan {
            faults: Some(REGISTRY),
            hasty: false,
            ..Plan::new(seed)
        },
        no_call_failed,
    );
}

#[test]
fn refused_connections_fail_no_call_while_one_instance_is_left() {
    const REFUSALS: &[Fault] = &[Fault::Refuse];
    let plan = |seed| Plan {
        faults: Some(REFUSALS),
        hasty: false,
        instances: 20,
        ..Plan::new(seed)
    };
    sweep(10, plan, |tally| match tally.not_run {
        0 => Ok(()),
        lost => Err(format!("{lost} calls failed that had not run")),
    });
}
