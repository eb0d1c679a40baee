#include "guard.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>

namespace {

// How deep this thread is in guarded calls.
thread_local int depth = 0;

struct Inside {
    Inside() { ++depth; }
    ~Inside() { --depth; }
};

// ggml calls this and then ends the process. From within a guarded call it does not return: the
// exception unwinds to the guard. Elsewhere the message must not be lost.
void on_abort(const char * message) {
    if (depth > 0) {
        throw std::runtime_error(message);
    }
    std::fprintf(stderr, "%s\n", message);
}

template <class Call> bool guarded(char * message, Call call) {
    static std::once_flag once;
    std::call_once(once, [] { ggml_set_abort_callback(on_abort); });
    Inside inside;
    try {
        call();
        return true;
    } catch (const std::exception & e) {
        std::snprintf(message, GGML_SYS_MESSAGE_SIZE, "%s", e.what());
    } catch (...) {
        std::snprintf(message, GGML_SYS_MESSAGE_SIZE, "unknown exception");
    }
    return false;
}

template <class Call> void ignoring(Call call) {
    char message[GGML_SYS_MESSAGE_SIZE];
    guarded(message, call);
}

}  // namespace

bool ggml_sys_dev_memory(char * message, ggml_backend_dev_t dev, size_t * free, size_t * total) {
    return guarded(message, [&] { ggml_backend_dev_memory(dev, free, total); });
}

bool ggml_sys_dev_init(char * message, ggml_backend_dev_t dev, ggml_backend_t * backend) {
    return guarded(message, [&] { *backend = ggml_backend_dev_init(dev, nullptr); });
}

bool ggml_sys_alloc_ctx_tensors(char * message, ggml_context * ctx, ggml_backend_buffer_type_t buft,
                                ggml_backend_buffer_t * buffer) {
    return guarded(message, [&] { *buffer = ggml_backend_alloc_ctx_tensors_from_buft(ctx, buft); });
}

bool ggml_sys_buffer_clear(char * message, ggml_backend_buffer_t buffer) {
    return guarded(message, [&] { ggml_backend_buffer_clear(buffer, 0); });
}

bool ggml_sys_tensor_set(char * message, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    return guarded(message, [&] { ggml_backend_tensor_set(tensor, data, offset, size); });
}

bool ggml_sys_tensor_get(char * message, const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    return guarded(message, [&] { ggml_backend_tensor_get(tensor, data, offset, size); });
}

bool ggml_sys_sched_reserve_size(char * message, ggml_backend_sched_t sched, ggml_cgraph * graph, size_t * sizes) {
    return guarded(message, [&] { ggml_backend_sched_reserve_size(sched, graph, sizes); });
}

bool ggml_sys_sched_alloc(char * message, ggml_backend_sched_t sched, ggml_cgraph * graph, bool * allocated) {
    return guarded(message, [&] { *allocated = ggml_backend_sched_alloc_graph(sched, graph); });
}

bool ggml_sys_sched_compute(char * message, ggml_backend_sched_t sched, ggml_cgraph * graph, ggml_status * status) {
    return guarded(message, [&] { *status = ggml_backend_sched_graph_compute(sched, graph); });
}

void ggml_sys_sched_free(ggml_backend_sched_t sched) {
    ignoring([&] { ggml_backend_sched_free(sched); });
}

void ggml_sys_backend_free(ggml_backend_t backend) {
    ignoring([&] { ggml_backend_free(backend); });
}

void ggml_sys_buffer_free(ggml_backend_buffer_t buffer) {
    ignoring([&] { ggml_backend_buffer_free(buffer); });
}

bool ggml_sys_fail(char * message, int how) {
    return guarded(message, [&] {
        if (how == 0) {
            throw std::runtime_error("device lost");
        }
        GGML_ABORT("device lost");
    });
}
