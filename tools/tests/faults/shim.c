/* Stands between a program and the C library: counts the calls that change files and lets the one
 * with the number FAULT_AT go wrong in the way FAULT_HOW. The count goes to the file FAULT_LOG. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

/* What is to happen to this call: 0 nothing, an error number, -1 short, -2 interrupted once. */
static int fault(void) {
    long number = atomic_fetch_add(&calls, 1) + 1;
    const char *at = getenv("FAULT_AT"), *how = getenv("FAULT_HOW");
    if (!at || !how || number != atol(at)) return 0;
    if (!strcmp(how, "kill")) raise(SIGKILL);
    if (!strcmp(how, "short")) return -1;
    if (!strcmp(how, "eintr")) return EINTR;
    if (!strcmp(how, "eio")) return EIO;
    return ENOSPC;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(how) do { if (how > 0) { errno = how; return -1; } } while (0)
#define SHORTENED(how, n) ((how) < 0 && (n) > 1 ? (n) / 2 : (n))

ssize_t write(int fd, const void *data, size_t n) {
    if (fd <= 2) return REAL(write)(fd, data, n);
    int how = fault();
    FAIL(how);
    return REAL(write)(fd, data, SHORTENED(how, n));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    int how = fault();
    FAIL(how);
    return REAL(pwrite64)(fd, data, SHORTENED(how, n), at);
}

int fsync(int fd) {
    int how = fault();
    FAIL(how);
    return REAL(fsync)(fd);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n) {
    int how = fault();
    FAIL(how);
    return REAL(fallocate64)(fd, mode, at, n);
}

int ftruncate64(int fd, off64_t n) {
    int how = fault();
    FAIL(how);
    return REAL(ftruncate64)(fd, n);
}

int rename(const char *from, const char *to) {
    int how = fault();
    FAIL(how);
    return REAL(rename)(from, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    int how = fault();
    FAIL(how);
    return REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULT_LOG");
    FILE *log = path ? fopen(path, "w") : NULL;
    if (!log) return;
    fprintf(log, "%ld\n", atomic_load(&calls));
    fclose(log);
}
