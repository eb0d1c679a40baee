// Calls into ggml that GPU backends may leave by a C++ exception (Vulkan) or by ggml_abort (CUDA):
// out of memory, a lost device. Each returns false then and writes what was said to `message`.
// After that the backend and everything made with it may only be freed.
#pragma once
#include <stddef.h>
#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// Room for a message, its final zero included.
#define GGML_SYS_MESSAGE_SIZE 512

bool ggml_sys_dev_memory(char * message, ggml_backend_dev_t dev, size_t * free, size_t * total);
bool ggml_sys_dev_init(char * message, ggml_backend_dev_t dev, ggml_backend_t * backend);
bool ggml_sys_alloc_ctx_tensors(char * message, struct ggml_context * ctx, ggml_backend_buffer_type_t buft,
                                ggml_backend_buffer_t * buffer);
bool ggml_sys_buffer_clear(char * message, ggml_backend_buffer_t buffer);
bool ggml_sys_tensor_set(char * message, struct ggml_tensor * tensor, const void * data, size_t offset, size_t size);
bool ggml_sys_tensor_get(char * message, const struct ggml_tensor * tensor, void * data, size_t offset, size_t size);
bool ggml_sys_sched_reserve_size(char * message, ggml_backend_sched_t sched, struct ggml_cgraph * graph, size_t * sizes);
bool ggml_sys_sched_alloc(char * message, ggml_backend_sched_t sched, struct ggml_cgraph * graph, bool * allocated);
bool ggml_sys_sched_compute(char * message, ggml_backend_sched_t sched, struct ggml_cgraph * graph,
                            enum ggml_status * status);

// Freeing on a device that is gone may fail too; then what cannot be freed is left.
void ggml_sys_sched_free(ggml_backend_sched_t sched);
void ggml_sys_backend_free(ggml_backend_t backend);
void ggml_sys_buffer_free(ggml_backend_buffer_t buffer);

// Fails as a lost device does in `how` (0: an exception, 1: ggml_abort); for tests.
bool ggml_sys_fail(char * message, int how);

#ifdef __cplusplus
}
#endif
