//! Calls between processes that find each other through a real Consul, which `cargo xtask integration` starts.

mod calls {
    picom_e2e::play!(real, calls: [
        values_arrive_as_they_were_sent,
        errors_arrive_as_what_they_are,
        a_panic_costs_its_own_call_only,
        an_unknown_method_and_an_unknown_service_are_told_apart,
        a_call_can_wait_for_its_service,
        a_deadline_ends_the_call_and_its_handler,
        a_nested_call_inherits_the_deadline,
        every_call_runs_once_and_gets_its_own_reply,
    ]);
}

mod streams {
    picom_e2e::play!(real, streams: [
        a_stream_arrives_in_order_and_whole,
        an_error_behind_items_is_not_taken_for_the_end,
        a_stream_of_input_is_answered_at_its_end,
        both_sides_speak_in_turn,
        a_reader_that_does_not_read_halts_its_own_sender_only,
    ]);
}

mod cancelling {
    picom_e2e::play!(real, cancelling: [
        dropping_a_call_drops_its_handler,
        dropping_the_receiver_stops_the_sender,
        input_cut_short_never_looks_complete,
        a_killed_caller_leaves_no_handler_behind,
        a_halted_caller_is_noticed,
    ]);
}
