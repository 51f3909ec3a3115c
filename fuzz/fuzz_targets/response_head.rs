#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vitald_fuzz::run("response_head", bytes));
