#![no_main]
rwkvq_fuzz::target!("blocks");
