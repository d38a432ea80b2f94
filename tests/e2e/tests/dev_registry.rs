//! Services getting into the dev agent, staying there and getting out: no Consul is needed.

mod registering {
    picom_e2e::play!(dev, registering: [
        an_exposed_service_is_in_consul_with_a_passing_ttl_check,
        heartbeats_keep_an_instance_passing_and_wake_nobody,
        the_ttl_in_consul_is_the_one_that_was_set,
        a_blocked_runtime_keeps_its_heartbeats,
        a_runtime_that_stays_blocked_is_taken_out_and_comes_back,
        end_leaves_nothing_before_during_and_after_expose,
        a_taken_port_is_named_and_nothing_is_registered,
        the_environment_says_where_consul_is,
        what_cannot_work_is_refused_by_its_value,
    ]);
}

mod losing_consul {
    picom_e2e::play!(dev, losing_consul: [
        services_come_back_to_an_agent_that_forgot_them,
        an_agent_that_is_gone_does_not_stop_calls,
        an_agent_that_hangs_does_not_stop_calls,
        an_agent_that_hung_for_long_takes_its_services_back,
        a_consul_that_is_down_at_start_is_a_clear_error,
        a_service_that_keeps_trying_is_registered_when_consul_comes,
    ]);
}

mod looking {
    picom_e2e::play!(dev, looking: [
        an_entry_nobody_keeps_up_is_seen_to_fail,
        a_killed_agent_is_away_and_comes_back_empty,
        a_halted_agent_takes_questions_and_answers_later,
    ]);
}
