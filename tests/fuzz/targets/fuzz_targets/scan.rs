//! libFuzzer's way to `picom_fuzz::scan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| picom_fuzz::scan(data));
