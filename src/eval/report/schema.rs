//! The published JSON Schema is what the structs and their comments say.

use schemars::generate::SchemaSettings;

use super::Report;

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json");

#[test]
fn the_published_schema_is_that_of_the_structs() {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let schema = generator.into_root_schema_for::<Report>();
    let found = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("RWKVQ_WRITE_SCHEMA").is_some() {
        std::fs::write(PUBLISHED, &found).unwrap();
    }
    let published = std::fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(
        published == found,
        "docs/report.schema.json is out of date; run this test with RWKVQ_WRITE_SCHEMA=1"
    );
}
