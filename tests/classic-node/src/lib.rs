//! Holds no code: the tests are in `tests/`, the foreign peers in `node/`.
