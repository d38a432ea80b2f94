//! Calls between processes while a cluster of three servers loses some or all; `cargo xtask integration --cluster`.

mod losing_servers {
    picom_e2e::play!(cluster, losing_servers: [
        a_leader_that_is_killed_costs_no_call,
        a_leader_that_hangs_costs_no_call,
        a_lost_quorum_costs_no_call,
        a_restart_of_everything_costs_no_call,
    ]);
}
