#![no_main]
rwkvq_fuzz::target!("vectors");
