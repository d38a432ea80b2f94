//! The dev agent that processes share, without anything else.

mod sharing {
    picom_e2e::play!(dev, sharing: [nodes_share_a_dev_agent_that_outlives_its_owner]);
}
