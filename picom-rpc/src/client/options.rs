//! The options that every call has, written once for all builders.

/// Methods for a builder that has a `call_mut`: one that has failed already has no call, takes options and ignores them.
macro_rules! call_options {
    () => {
        fn set(&mut self, option: impl FnOnce(&mut $crate::client::call::CallOptions)) {
            if let Some(call) = self.call_mut() {
                option(&mut call.options);
            }
        }

        /// How long the call may take in all, its retries and its input included, from when it is first awaited. Within a
        /// handler the time its own caller left holds as well.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.set(|options| options.timeout = $crate::deadline::Timeout::After(timeout));
            self
        }

        /// No time-out of its own. Within a handler the time its own caller left still holds; see
        /// [`detached`](Self::detached).
        pub fn no_timeout(mut self) -> Self {
            self.set(|options| options.timeout = $crate::deadline::Timeout::Never);
            self
        }

        /// Made within a handler, the call does not inherit the handler's deadline: for work that must be done even if
        /// nobody waits any more. Whoever drops the call still ends it.
        pub fn detached(mut self) -> Self {
            self.set(|options| options.detached = true);
            self
        }

        /// The call may run more than once without harm: it is then repeated on another instance also when it is not known
        /// whether it ran, as far as the budget of retries goes.
        pub fn idempotent(mut self) -> Self {
            self.set(|options| options.idempotent = true);
            self
        }

        /// Calls with the same key go to the same instance while that one can be called: for caches at the service.
        /// All clients agree which instance it is. Balancing by load plays no part then.
        pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
            self.set(|options| options.key = Some($crate::client::ring::hash(key.as_ref())));
            self
        }

        /// What travels beside the arguments; replaces what was set before.
        pub fn metadata(mut self, metadata: $crate::metadata::Metadata) -> Self {
            self.set(|options| options.metadata = metadata);
            self
        }

        /// Waits, as long as the call may take, until there is an instance that can be reached, instead of failing at once
        /// when the service is down.
        pub fn wait_for_ready(mut self) -> Self {
            self.set(|options| options.wait_for_ready = true);
            self
        }

        /// Attempts behind the first; 0 is none. Else the client's setting holds.
        pub fn retries(mut self, retries: u32) -> Self {
            self.set(|options| options.retries = Some(retries));
            self
        }
    };
}

pub(crate) use call_options;
