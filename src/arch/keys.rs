//! Names of the metadata keys of an RWKV-6 GGUF.

/// Value of `general.architecture`.
pub const RWKV6: &str = "rwkv6";

/// `general.architecture`, string.
pub const ARCHITECTURE: &str = "general.architecture";
/// `general.alignment`, u32.
pub const ALIGNMENT: &str = "general.alignment";
/// `general.file_type`, u32: llama.cpp's number of the preset.
pub const FILE_TYPE: &str = "general.file_type";
/// `general.quantization_version`, u32.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// `general.name`, string.
pub const NAME: &str = "general.name";

/// u32, 1048576: a recurrent model has no limit, the format wants a number.
pub const CONTEXT_LENGTH: &str = "rwkv6.context_length";
/// u32, width of the model.
pub const EMBEDDING_LENGTH: &str = "rwkv6.embedding_length";
/// u32, number of layers.
pub const BLOCK_COUNT: &str = "rwkv6.block_count";
/// f32.
pub const LAYER_NORM_EPSILON: &str = "rwkv6.attention.layer_norm_epsilon";
/// u32, 0 for never.
pub const RESCALE_EVERY: &str = "rwkv6.rescale_every_n_layers";
/// u32.
pub const HEAD_SIZE: &str = "rwkv6.wkv.head_size";
/// u32, rank of the token-shift factors.
pub const TIME_MIX_EXTRA_DIM: &str = "rwkv6.time_mix_extra_dim";
/// u32, rank of the decay factors.
pub const TIME_DECAY_EXTRA_DIM: &str = "rwkv6.time_decay_extra_dim";
/// u32, width of the channel mix.
pub const FEED_FORWARD_LENGTH: &str = "rwkv6.feed_forward_length";
/// u32, 0: llama.cpp wants the key and ignores it.
pub const HEAD_COUNT: &str = "rwkv6.attention.head_count";

/// string, `rwkv`.
pub const TOKENIZER_MODEL: &str = "tokenizer.ggml.model";
/// Array of strings.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
/// Array of i32.
pub const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// string: the importance matrix that the weights were quantized with.
pub const IMATRIX_FILE: &str = "quantize.imatrix.file";
/// string: the text it was measured on.
pub const IMATRIX_DATASET: &str = "quantize.imatrix.dataset";
/// u32: matrices it covers.
pub const IMATRIX_ENTRIES: &str = "quantize.imatrix.entries_count";
/// u32: chunks of text that were run.
pub const IMATRIX_CHUNKS: &str = "quantize.imatrix.chunks_count";
