#![no_main]
rwkvq_fuzz::target!("torch");
