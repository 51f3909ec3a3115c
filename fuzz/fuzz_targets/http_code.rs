#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vitald_fuzz::run("http_code", bytes));
