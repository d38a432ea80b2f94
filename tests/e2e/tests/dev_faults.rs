//! Processes that halt, die, end and are replaced while they are called; found through the dev agent: no Consul is needed.

mod failing {
    picom_e2e::play!(dev, failing: [
        a_halted_instance_gets_no_calls_after_its_ttl_and_comes_back,
        an_instance_whose_check_fails_gets_no_calls_though_it_answers,
        a_call_at_a_halted_instance_ends_long_before_its_deadline,
        a_killed_instance_fails_only_what_was_in_flight_on_it,
        a_stale_entry_is_refused_and_the_call_goes_elsewhere,
    ]);
}

mod replacing {
    picom_e2e::play!(dev, replacing: [
        a_rolling_restart_fails_no_call,
        a_rolling_restart_without_a_pause_fails_no_call,
    ]);
}

mod ending {
    picom_e2e::play!(dev, ending: [
        replies_arrive_while_a_service_ends,
        what_does_not_finish_is_cut_and_counted,
        sigterm_ends_a_service_in_order,
        a_second_sigterm_waits_for_nothing,
        who_has_ended_makes_no_more_calls,
    ]);
}

mod strangers {
    picom_e2e::play!(dev, strangers: [
        strangers_are_turned_away_and_harm_nobody,
        silent_connections_are_closed_and_hold_up_nobody,
    ]);
}

mod storm {
    picom_e2e::play!(dev, storm: [nothing_is_lost_repeated_or_mixed_up_in_a_storm]);
}
