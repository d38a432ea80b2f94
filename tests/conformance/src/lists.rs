//! Which behaviour runs on which subject: the lists that the test programs run and that the table is compared with.

/// Hands the numbers and names of all behaviours of the mock to a macro.
#[macro_export]
macro_rules! on_mock {
    ($with:ident) => {
        $with! {
            1 registration a_registration_is_seen_as_it_was_made,
            2 registration a_new_check_fails_until_its_first_heartbeat,
            3 registration a_check_that_begins_as_passing_is_usable_at_once,
            4 registration an_id_registered_again_replaces_itself,
            5 registration registering_the_same_again_is_no_news,
            6 registration a_status_outlives_a_registration_and_ours_passes_in_the_end,
            7 registration of_two_at_one_address_one_is_usable,
            9 registration a_port_that_is_none_is_neither_announced_nor_believed,
            11 registration addresses_are_what_one_can_dial,
            12 registration deregistering_twice_succeeds,
            13 registration nothing_comes_back_after_the_end,
            14 ttl heartbeats_keep_it_passing_and_wake_nobody,
            15 ttl without_heartbeats_it_is_out_after_its_ttl,
            16 ttl a_late_heartbeat_brings_it_back,
            17 ttl a_warning_and_a_failure_take_it_out_at_once,
            26 watching the_first_answer_comes_at_once,
            27 watching a_change_is_delivered_within_100_ms,
            28 watching waking_without_a_change_is_no_news,
            33 watching a_storm_of_changes_ends_in_the_last,
            50 loss the_end_comes_back_within_its_bound,
        }
    };
}

/// Hands the numbers and names of all behaviours that need an HTTP API to a macro, after those of [`on_mock`].
#[macro_export]
macro_rules! on_agents {
    ($with:ident) => {
        $with! {
            8 registration what_is_wrong_is_refused_in_consuls_words,
            10 registration odd_ids_register_beat_and_deregister,
            19 ttl a_long_output_does_no_harm,
            21 loss an_agent_without_memory_has_us_again_by_the_next_heartbeat,
            24 loss an_agent_that_is_away_empties_nothing,
            31 loss a_change_right_after_a_restart_is_seen,
            34 watching the_last_watch_takes_its_connection_with_it,
            35 watching two_watches_of_a_name_share_a_query,
            36 watching a_node_in_maintenance_takes_all_its_instances_out,
            37 watching a_warning_is_listed_and_not_usable,
            38 watching a_tag_that_is_asked_for_shows_and_hides,
            49 registration one_id_on_two_nodes_is_two_instances,
        }
    };
}

/// Hands those that take minutes of real time to a macro.
#[macro_export]
macro_rules! slow {
    ($with:ident) => {
        $with! {
            18 ttl what_stays_critical_is_removed,
        }
    };
}

/// Hands those that only a real Consul can show to a macro, each with the way it is started.
#[macro_export]
macro_rules! only_on_consul {
    ($with:ident) => {
        $with! {
            22 start_durable an_agent_that_remembers_needs_nothing,
            25 start an_agent_that_ends_in_order_causes_no_false_news,
            41 start_with_acls a_token_nobody_knows_is_an_error,
            42 start_with_acls a_changed_token_file_is_used_and_renews_the_registration,
            45 start_with_tls tls_and_unix_sockets_reach_the_agent,
            47 start the_connection_too_many_is_told_with_a_hint,
        }
    };
}

/// Hands those that apply to lists which are read again and again, a file and DNS, to a macro.
#[macro_export]
macro_rules! on_lists {
    ($with:ident) => {
        $with! {
            24 loss a_list_that_is_away_empties_nothing,
            26 watching the_first_answer_comes_at_once,
            27 watching a_change_is_delivered_within_100_ms,
            28 watching waking_without_a_change_is_no_news,
            33 watching a_storm_of_changes_ends_in_the_last,
        }
    };
}

macro_rules! names {
    ($($number:literal $module:ident $name:ident,)*) => { &[$(($number, stringify!($name))),*] };
}

/// Number and name of what runs on the mock.
pub const ON_MOCK: &[(u32, &str)] = on_mock!(names);
/// What runs on the dev agent: this, what runs on the mock, and what is slow elsewhere.
pub const ON_DEV_AGENT: &[(u32, &str)] = on_agents!(names);
/// What runs on Consul beside what runs on the mock.
pub const ON_CONSUL: &[(u32, &str)] = on_agents!(names);
/// What runs on Consul and takes minutes.
pub const SLOW_ON_CONSUL: &[(u32, &str)] = slow!(names);
/// What only a real Consul can show.
pub const ONLY_ON_CONSUL: &[(u32, &str)] = only_on_consul!(names);
/// What runs on a file and on DNS.
pub const ON_LISTS: &[(u32, &str)] = on_lists!(names);
